"""A person: all accounts and performers that belong to one human being, as far as the database knows.

An account belongs to the account that it was merged into. A performer belongs to the accounts that have its Sharegram
id, or an identity of Sharegram with it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.tables import performers, user_identities, users
from safevideo_common.errors import PerformerNotFound, UserNotFound
from safevideo_common.users import store
from safevideo_common.users.store import MAX_MERGE_DEPTH

_u: Final = users.c
_i: Final = user_identities.c


@dataclass(frozen=True, slots=True)
class Person:
    """The ids of a person, each list in ascending order. One of the lists may be empty."""

    user_ids: tuple[int, ...]
    performer_ids: tuple[str, ...]
    """Sharegram's."""


async def find_person(connection: AsyncConnection, reference: int | str) -> Person:
    """Return the person who has this account of ours, or this performer of Sharegram.

    Raises `UserNotFound` for an unknown account, `PerformerNotFound` for a performer of whom nothing is here.
    """
    if isinstance(reference, int):
        primary = await store.get_primary(connection, reference)
        if primary is None:
            raise UserNotFound(f"There is no user {reference}.")
        return await _whole(connection, {primary.id}, set())
    person = await person_of_performer(connection, reference)
    if not person.user_ids:
        query = select(performers.c.id).where(performers.c.sharegram_id == reference)
        if await connection.scalar(query) is None:
            raise PerformerNotFound("There is no such performer.")
    return person


async def person_of_performer(connection: AsyncConnection, sharegram_id: str) -> Person:
    """Return the person who is this performer. Without an account it is the performer alone."""
    with_id = select(_u.id).where(_u.sharegram_id == sharegram_id)
    signed_in = select(_i.user_id).where(_i.provider == SHAREGRAM, _i.subject == sharegram_id)
    found = {*await connection.scalars(with_id), *await connection.scalars(signed_in)}
    primaries = {user.id for each in found if (user := await store.get_primary(connection, each)) is not None}
    return await _whole(connection, primaries, {sharegram_id})


async def _whole(connection: AsyncConnection, primaries: Collection[int], performer_ids: set[str]) -> Person:
    user_ids, newest = set(primaries), set(primaries)
    for _ in range(MAX_MERGE_DEPTH):
        if not newest:
            break
        merged = set(await connection.scalars(select(_u.id).where(_u.merged_into.in_(newest))))
        newest = merged - user_ids
        user_ids |= newest
    if user_ids:
        linked = select(_u.sharegram_id).where(_u.id.in_(user_ids), _u.sharegram_id.is_not(None))
        performer_ids |= set(await connection.scalars(linked))
        subjects = select(_i.subject).where(_i.provider == SHAREGRAM, _i.user_id.in_(user_ids), _i.subject != "")
        performer_ids |= set(await connection.scalars(subjects))
    return Person(tuple(sorted(user_ids)), tuple(sorted(performer_ids)))
