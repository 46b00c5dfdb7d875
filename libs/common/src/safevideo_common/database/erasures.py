"""Orders to erase a person, and the identifiers by which the person would come back.

An order is written before anything is erased, and is never deleted. Consumers, syncs and sign-ins look an identifier up
here in their own transaction, so whatever brings an old event back, the person stays erased.

An order has three states: it waits, as long as a hold keeps the person; it has started, and no hold is accepted any
more; it was applied.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import batched, chunks
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.database.tables import erased_identifiers, erasure_orders

_o: Final = erasure_orders.c
_i: Final = erased_identifiers.c


class IdentifierKind(StrEnum):
    """The kind of an identifier of an erased person."""

    USER = "user"
    """Our id of an account, in digits."""
    PERFORMER = "performer"
    """Sharegram's id. It is no name, and without it nobody could tell whose event arrives."""
    IDENTITY = "identity"
    """The digest of a provider's issuer and subject."""


@dataclass(frozen=True, slots=True)
class ErasureOrder:
    """An order. `started_at` is None until the first thing was erased, `applied_at` until everything was."""

    id: int
    reason: str
    created_at: datetime
    created_by: str
    applied_at: datetime | None
    started_at: datetime | None = None


Identifiers = Mapping[IdentifierKind, Sequence[str]]


async def erased(connection: AsyncConnection, kind: IdentifierKind, identifiers: Iterable[str]) -> frozenset[str]:
    """Return those of the identifiers that belong to an erased person. Without any order it reads one row at most."""
    if await connection.scalar(select(_i.order_id).where(_i.kind == kind).limit(1)) is None:
        return frozenset()
    found: set[str] = set()
    for chunk in chunks(identifiers):
        query = select(_i.identifier).where(_i.kind == kind, _i.identifier.in_(chunk))
        found.update(await connection.scalars(query))
    return frozenset(found)


async def find_orders(connection: AsyncConnection, identifiers: Identifiers) -> list[ErasureOrder]:
    """Return the orders that have one of the identifiers, the oldest first. Few identifiers take one statement."""
    found: dict[int, ErasureOrder] = {}
    for chunk in batched((kind, value) for kind, values in identifiers.items() for value in values):
        of_kind = {kind: [value for each, value in chunk if each == kind] for kind, _ in chunk}
        conditions = [and_(_i.kind == kind, _i.identifier.in_(values)) for kind, values in of_kind.items()]
        query = select(erasure_orders).where(_o.id.in_(select(_i.order_id).where(or_(*conditions))))
        found |= {row.id: ErasureOrder(*row) for row in await connection.execute(query)}
    return [found[each] for each in sorted(found)]


async def find_open_order(connection: AsyncConnection, identifiers: Identifiers) -> ErasureOrder | None:
    """Return an order that has one of the identifiers and was not applied yet, or None."""
    orders = await find_orders(connection, identifiers)
    return next((each for each in orders if each.applied_at is None), None)


async def find_started_order(connection: AsyncConnection, identifiers: Identifiers) -> ErasureOrder | None:
    """Return an order that has one of the identifiers and has started, or None.

    It stays true until the transaction ends only if the caller has locked the person.
    """
    orders = await find_orders(connection, identifiers)
    return next((each for each in orders if each.started_at is not None), None)


async def create_order(lock: PersonLock, identifiers: Identifiers, reason: str, created_by: str, now: datetime) -> int:
    """Write an order and return its id. Raises `DatabaseConflict` if another transaction has ordered it since."""
    row = {"reason": reason, "created_at": now, "created_by": created_by}
    order_id = int((await lock.tx.execute(insert(erasure_orders).values(row))).lastrowid)
    await add_identifiers(lock, order_id, identifiers)
    return order_id


async def add_identifiers(lock: PersonLock, order_id: int, identifiers: Identifiers) -> None:
    """Add identifiers that the order does not have yet."""
    rows = []
    for kind, values in identifiers.items():
        there = await erased(lock.tx, kind, values)
        rows += [{"kind": kind, "identifier": each, "order_id": order_id} for each in values if each not in there]
    if rows:
        await lock.tx.execute(insert(erased_identifiers), rows)


async def get_order(connection: AsyncConnection, order_id: int) -> ErasureOrder | None:
    """Return an order, or None."""
    row = (await connection.execute(select(erasure_orders).where(_o.id == order_id))).one_or_none()
    return None if row is None else ErasureOrder(*row)


async def orders_after(reading: AsyncConnection, after: int, limit: int) -> Sequence[ErasureOrder]:
    """Return the orders with an id over `after`, in order."""
    rows = await reading.execute(select(erasure_orders).where(_o.id > after).order_by(_o.id).limit(limit))
    return [ErasureOrder(*row) for row in rows]


async def identifiers_of(reading: AsyncConnection, order_ids: Collection[int]) -> Identifiers:
    """Return the identifiers of some orders."""
    found: dict[IdentifierKind, list[str]] = {kind: [] for kind in IdentifierKind}
    query = select(_i.kind, _i.identifier).where(_i.order_id.in_(order_ids)).order_by(_i.kind, _i.identifier)
    for kind, identifier in await reading.execute(query):
        found[IdentifierKind(kind)].append(identifier)
    return found


async def mark_started(lock: PersonLock, order_id: int, now: datetime) -> None:
    """Record that an order has started. The caller has found no hold."""
    await lock.tx.execute(
        update(erasure_orders).where(_o.id == order_id, _o.started_at.is_(None)).values(started_at=now)
    )


async def mark_applied(lock: PersonLock, order_id: int, now: datetime) -> bool:
    """Record that an order was applied. Return whether it was the first time."""
    mine = (_o.id == order_id, _o.applied_at.is_(None))
    return bool((await lock.tx.execute(update(erasure_orders).where(*mine).values(applied_at=now))).rowcount)
