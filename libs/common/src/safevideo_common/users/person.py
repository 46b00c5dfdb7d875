"""A person: all accounts and performers that belong to one human being, and the one place that locks them.

An account belongs to the account that it was merged into. A performer belongs to the accounts that have its Sharegram
id, or an identity of Sharegram with it.

Every act on a person calls `lock` first, in its own transaction, and only then looks at holds, orders and merges. Each
such act locks in the order of `database/person_locks.py`. If what was locked is not what was found, the whole
transaction is repeated: `lock` raises `DatabaseConflict`, and `retry_on_conflict` is around each act.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database.batches import chunks
from safevideo_common.database.erasures import IdentifierKind, Identifiers
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.person_locks import PersonLock, lock_names, performer_name
from safevideo_common.database.tables import performers, user_identities, users
from safevideo_common.errors import DatabaseConflict, PerformerNotFound, UserNotFound
from safevideo_common.users import store
from safevideo_common.users.account import Account, account_of
from safevideo_common.users.store import User

Reference = int | str
"""Our id of an account, or Sharegram's of a performer."""

_u: Final = users.c
_i: Final = user_identities.c


@dataclass(frozen=True, slots=True)
class Person:
    """The ids of a person, each list in ascending order. One of the lists may be empty."""

    user_ids: tuple[int, ...]
    performer_ids: tuple[str, ...]
    """Sharegram's."""

    def identifiers(self, digests: Iterable[str] = ()) -> Identifiers:
        """Return all by which the person is known. `digests` are those of the identities."""
        return {
            IdentifierKind.USER: [str(each) for each in self.user_ids],
            IdentifierKind.PERFORMER: list(self.performer_ids),
            IdentifierKind.IDENTITY: list(digests),
        }


@dataclass(frozen=True, slots=True)
class LockedPerson(PersonLock):
    """Persons that this transaction has locked. Nobody else signs in, merges, holds or erases them until it ends."""

    person: Person
    """All of them as one."""
    accounts: Mapping[int, User]
    """All accounts, merged ones too, with their own values."""
    roots: Mapping[int, int]
    """The root of each account."""

    def account(self, user_id: int, clock: Clock) -> Account:
        """Return the account at the root of `user_id`, with what all of its tree have."""
        root_id = self.roots[user_id]
        return account_of(root_id, [self.accounts[each] for each in self.members(root_id)], clock())

    def members(self, root_id: int) -> list[int]:
        """Return the accounts with this root, the root too."""
        return [user_id for user_id, root in self.roots.items() if root == root_id]

    def tree(self, user_id: int) -> set[int]:
        """Return the account with all that are merged into it, directly or not."""
        found = {user_id}
        while more := {each.id for each in self.accounts.values() if each.merged_into in found} - found:
            found |= more
        return found


async def find_person(connection: AsyncConnection, reference: Reference) -> Person:
    """Return the person who has this account of ours, or this performer of Sharegram.

    Raises `UserNotFound` for an unknown account, `PerformerNotFound` for a performer of whom nothing is here.
    """
    if isinstance(reference, int):
        if not (roots := await store.roots_of(connection, [reference])):
            raise UserNotFound(f"There is no user {reference}.")
        return await _whole(connection, set(roots.values()), set())
    person = await person_of_performer(connection, reference)
    if not person.user_ids:
        query = select(performers.c.id).where(performers.c.sharegram_id == reference)
        if await connection.scalar(query) is None:
            raise PerformerNotFound("There is no such performer.")
    return person


async def person_of_performer(connection: AsyncConnection, sharegram_id: str) -> Person:
    """Return the person who is this performer. Without an account it is the performer alone."""
    roots = await store.roots_of(connection, await _accounts_of_performers(connection, [sharegram_id]))
    return await _whole(connection, set(roots.values()), {sharegram_id})


async def lock(tx: AsyncConnection, *references: Reference, also: Collection[str] = ()) -> LockedPerson:
    """Lock the persons of these accounts or performers. `also` are further names to lock, before the persons.

    Raises `UserNotFound`, `PerformerNotFound`, and `DatabaseConflict` if a person has changed meanwhile.
    """
    found = [await find_person(tx, each) for each in references]
    return await _lock(tx, _union(found), also, lambda: _find_all(tx, references))


async def lock_known(tx: AsyncConnection, user_ids: Collection[int], performer_ids: Collection[str]) -> LockedPerson:
    """Lock the persons of these identifiers, also of performers of whom nothing is here yet.

    Accounts that do not exist are left out. Raises as `lock` does.
    """

    async def find() -> Person:
        accounts = {*user_ids, *await _accounts_of_performers(tx, performer_ids)}
        roots = await store.roots_of(tx, accounts)
        return await _whole(tx, set(roots.values()), set(performer_ids))

    return await _lock(tx, await find(), (), find)


async def lock_root(tx: AsyncConnection, root_id: int, user_id: int) -> LockedPerson:
    """Lock the person whose tree of accounts has this root, in two statements: for each sign-in.

    Raises `DatabaseConflict` if it is no root any more, or `user_id` no account of its tree.
    """
    rows = await store.lock_rows(tx, [root_id])
    if root_id not in rows or rows[root_id].merged_into is not None:
        raise _changed()
    accounts = store.by_id(await store.members_of(tx, [root_id]))
    if user_id not in accounts:
        raise _changed()
    return LockedPerson(tx, Person(tuple(sorted(accounts)), ()), accounts, dict.fromkeys(accounts, root_id))


async def read_again(locked: LockedPerson) -> LockedPerson:
    """Return the same persons, with their accounts as this transaction has changed them."""
    members = await store.members_of(locked.tx, set(locked.roots.values()))
    return LockedPerson(locked.tx, locked.person, store.by_id(members), locked.roots)


async def _find_all(tx: AsyncConnection, references: Iterable[Reference]) -> Person:
    return _union([await find_person(tx, each) for each in references])


async def _lock(
    tx: AsyncConnection, found: Person, also: Collection[str], again: Callable[[], Awaitable[Person]]
) -> LockedPerson:
    await lock_names(tx, [*also, *map(performer_name, found.performer_ids)])
    roots = await store.roots_of(tx, found.user_ids)
    rows = await store.lock_rows(tx, set(roots.values()))
    if any(row.merged_into is not None for row in rows.values()) or await again() != found:
        raise _changed()
    accounts = store.by_id(await store.members_of(tx, list(rows)))
    if set(accounts) != set(found.user_ids):
        raise _changed()
    return LockedPerson(tx, found, accounts, roots)


def _changed() -> DatabaseConflict:
    return DatabaseConflict("this person was merged, unmerged or linked meanwhile")


def _union(persons: Collection[Person]) -> Person:
    user_ids = {each for person in persons for each in person.user_ids}
    performer_ids = {each for person in persons for each in person.performer_ids}
    return Person(tuple(sorted(user_ids)), tuple(sorted(performer_ids)))


async def _accounts_of_performers(connection: AsyncConnection, performer_ids: Collection[str]) -> set[int]:
    found: set[int] = set()
    for chunk in chunks(performer_ids):
        found.update(await connection.scalars(select(_u.id).where(_u.sharegram_id.in_(chunk))))
        signed_in = select(_i.user_id).where(_i.provider == SHAREGRAM, _i.subject.in_(chunk))
        found.update(await connection.scalars(signed_in))
    return found


async def _whole(connection: AsyncConnection, roots: Collection[int], performer_ids: set[str]) -> Person:
    user_ids = [each.id for each in await store.members_of(connection, roots)] if roots else []
    if user_ids:
        linked = select(_u.sharegram_id).where(_u.id.in_(user_ids), _u.sharegram_id.is_not(None))
        performer_ids |= set(await connection.scalars(linked))
        subjects = select(_i.subject).where(_i.provider == SHAREGRAM, _i.user_id.in_(user_ids), _i.subject != "")
        performer_ids |= set(await connection.scalars(subjects))
    return Person(tuple(sorted(user_ids)), tuple(sorted(performer_ids)))
