"""The mirror of Sharegram's performers. sync-worker writes it, the gateway reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, insert, select, union_all
from sqlalchemy import update as sql_update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert, for_update, for_update_skip_locked, force_index
from safevideo_common.database.paging import Order, behind, equal, within
from safevideo_common.database.tables import performers
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performer_status import StatusDecision
from safevideo_common.domain.performers import FIELDS, Performer


class LockedPerformer(NamedTuple):
    """A performer whose row is locked, with our id, and the sequence of its last published change."""

    id: int
    performer: Performer
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class StoredPerformer:
    """A performer with the columns that only the database has."""

    id: int
    performer: Performer
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PerformerFilter:
    """Conditions that must all match."""

    statuses: Sequence[str] = ()
    """The visible ones; all if it is empty."""
    verified: bool | None = None
    username: str | None = None
    updated_since: datetime | None = None
    with_deleted: bool = False


SortColumn = Literal["created_at", "updated_at"]
Position = tuple[datetime, int]
"""The place of a row in a list: its value of the sort column, and our id."""

_c: Final = performers.c
_READ: Final = (
    *(_c.id, _c.change_sequence, _c.sharegram_id, _c.deleted_at, _c.status_decision),
    *(_c[name] for name in FIELDS),
    _c.field_versions,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HAS_ID: Final = _c.sharegram_id.in_(bindparam("sharegram_ids", expanding=True))
# By this index, because the server locks each row that it reads on the way.
_INDEX: Final = "uq_performers_sharegram_id"
_BY_SHAREGRAM_ID: Final = force_index(select(*_READ).where(_HAS_ID).order_by(_c.sharegram_id), performers, _INDEX)
_LOCKED: Final = for_update(_BY_SHAREGRAM_ID)
_IDS: Final = force_index(select(_c.sharegram_id).where(_HAS_ID), performers, _INDEX)
_UNLOCKED_IDS: Final = for_update_skip_locked(_IDS)
_BY_ID: Final = select(*_READ, _c.created_at, _c.updated_at).where(_c.id == bindparam("id"))
_OURS: Final = ("change_sequence", "deleted_at", "status_decision", "suspended_until")
_WRITTEN: Final = ("sharegram_id", *FIELDS, "field_versions", "created_at", "updated_at", *_OURS)
_INSERT: Final = Bulk(insert(performers), _WRITTEN)
_UPDATE: Final = Bulk(
    Upsert(performers, ("id",), (*FIELDS, "field_versions", "updated_at", *_OURS)),
    ("id", *_WRITTEN),
)


async def load_for_update(tx: AsyncConnection, sharegram_ids: Iterable[str]) -> Mapping[str, LockedPerformer]:
    """Return the existing performers by Sharegram id, locked until the transaction ends."""
    return await _load(tx, _LOCKED, sharegram_ids)


async def locked(tx: AsyncConnection, sharegram_ids: Iterable[str]) -> set[str]:
    """Return those performers that another transaction has locked. Waits for no lock; locks the others."""
    found: set[str] = set()
    for chunk in chunks(sharegram_ids):
        existing = set(await tx.scalars(_IDS, {"sharegram_ids": chunk}))
        found |= existing - set(await tx.scalars(_UNLOCKED_IDS, {"sharegram_ids": chunk}))
    return found


async def load(connection: AsyncConnection, sharegram_ids: Iterable[str]) -> Mapping[str, LockedPerformer]:
    """Return the existing performers by Sharegram id, without locks: they may be outdated."""
    return await _load(connection, _BY_SHAREGRAM_ID, sharegram_ids)


async def insert_new(
    tx: AsyncConnection, new: Iterable[Performer], now: datetime, sequences: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Insert performers that `load_for_update` did not return; `sequences` by Sharegram id.

    Raises `DatabaseConflict` if another transaction has inserted one of them since.
    """
    await _INSERT.execute(tx, (_row(performer, sequences.get(performer.sharegram_id, 0), now) for performer in new))


async def update(tx: AsyncConnection, changed: Iterable[LockedPerformer], now: datetime) -> None:
    """Write performers that `load_for_update` returned, in one statement."""
    # The rows exist and are locked, so it never inserts.
    rows = ((row_id, *_row(performer, sequence, now)) for row_id, performer, sequence in changed)
    await _UPDATE.execute(tx, rows)


async def load_by_id_for_update(tx: AsyncConnection, performer_id: int) -> LockedPerformer | None:
    """Return the performer with our id, locked until the transaction ends, or None."""
    row = (await tx.execute(for_update(select(*_READ).where(_c.id == performer_id)))).one_or_none()
    if row is None:
        return None
    row_id, sequence, *columns = row
    return LockedPerformer(row_id, _performer(*columns), sequence)


async def suspended_until(connection: AsyncConnection, at: datetime, limit: int) -> Sequence[str]:
    """Return at most `limit` performers, by Sharegram id, whose suspension ends at or before `at`, the first ones."""
    due = select(_c.sharegram_id).where(_c.suspended_until <= at)
    return (await connection.scalars(due.order_by(_c.suspended_until).limit(limit))).all()


async def get(connection: AsyncConnection, performer_id: int) -> StoredPerformer | None:
    """Return the performer with our id, or None."""
    row = (await connection.execute(_BY_ID, {"id": performer_id})).one_or_none()
    return row and _stored(row)


async def get_by_sharegram_id(connection: AsyncConnection, sharegram_id: str) -> StoredPerformer | None:
    """Return the performer with Sharegram's id, or None."""
    query = select(*_READ, _c.created_at, _c.updated_at).where(_c.sharegram_id == sharegram_id)
    row = (await connection.execute(query)).one_or_none()
    return row and _stored(row)


async def find(
    reading: AsyncConnection, matching: PerformerFilter, *, sort: SortColumn, order: Order, limit: int,
    offset: int = 0, after: Position | None = None,
) -> Sequence[StoredPerformer]:  # fmt: skip
    """Return at most `limit` performers in order, without the first `offset` ones, or behind the position `after`.

    Each status is read by its own index and in order, so the cost is that of the rows up to the end of the page.
    """
    column, conditions = _c[sort], _conditions(matching)
    if after is not None:
        conditions.append(behind(column, _c.id, after, order))
    branches = [[*conditions, _c.status == status] for status in matching.statuses] or [conditions]
    parts = [
        select(_c.id, column).where(*each).order_by(*_sorted(column, _c.id, order)).limit(offset + limit).subquery()
        for each in branches
    ]
    found = union_all(*(select(each) for each in parts)).subquery() if len(parts) > 1 else parts[0]
    page = select(found.c.id).order_by(*_sorted(found.c[sort], found.c.id, order)).limit(limit).offset(offset)
    row_ids = (await reading.scalars(page)).all()
    rows = await reading.execute(select(*_READ, _c.created_at, _c.updated_at).where(_c.id.in_(row_ids)))
    stored = {each.id: each for each in map(_stored, rows)}
    return [stored[row_id] for row_id in row_ids if row_id in stored]


async def count(reading: AsyncConnection, matching: PerformerFilter) -> int:
    """Return the number of performers that match."""
    conditions = _conditions(matching)
    if matching.statuses:
        conditions.append(_c.status.in_(matching.statuses))
    return await reading.scalar(select(func.count()).select_from(performers).where(*conditions)) or 0


def _conditions(matching: PerformerFilter) -> list[ColumnElement[bool]]:
    of_columns = equal((_c.verified, matching.verified), (_c.username, matching.username))
    live = [] if matching.with_deleted else [_c.deleted_at.is_(None)]
    return [*of_columns, *within(_c.updated_at, matching.updated_since, None), *live]


def _sorted(column: ColumnElement[Any], row_id: ColumnElement[Any], order: Order) -> list[ColumnElement[Any]]:
    return [column, row_id] if order == "asc" else [column.desc(), row_id.desc()]


async def id_of(connection: AsyncConnection, sharegram_id: str) -> int | None:
    """Return our id of a performer, or None."""
    row_id: int | None = await connection.scalar(select(_c.id).where(_c.sharegram_id == sharegram_id))
    return row_id


async def last_synced_at(connection: AsyncConnection, sharegram_id: str) -> datetime | None:
    """Return when the performer was last fetched alone and stored, or None."""
    at: datetime | None = await connection.scalar(select(_c.synced_at).where(_c.sharegram_id == sharegram_id))
    return at


async def record_synced(tx: AsyncConnection, sharegram_id: str, now: datetime) -> None:
    """Record that the performer was fetched alone. It is no change of the performer."""
    await tx.execute(sql_update(performers).where(_c.sharegram_id == sharegram_id).values(synced_at=now))


async def not_written_since(tx: AsyncConnection, sharegram_ids: Iterable[str], at: datetime) -> set[str]:
    """Return those of locked performers that are not deleted and whose last write was before `at`."""
    query = select(_c.sharegram_id).where(_c.updated_at < at, _c.deleted_at.is_(None))
    found: set[str] = set()
    for chunk in chunks(sharegram_ids):
        found.update((await tx.scalars(for_update(query.where(_c.sharegram_id.in_(chunk))))).all())
    return found


async def _load(
    connection: AsyncConnection, query: Select[*tuple[Any, ...]], sharegram_ids: Iterable[str]
) -> Mapping[str, LockedPerformer]:
    loaded: dict[str, LockedPerformer] = {}
    for chunk in chunks(sharegram_ids):
        for row_id, sequence, *columns in await connection.execute(query, {"sharegram_ids": chunk}):
            performer = _performer(*columns)
            loaded[performer.sharegram_id] = LockedPerformer(row_id, performer, sequence)
    return loaded


def _stored(row: Row[*tuple[Any, ...]]) -> StoredPerformer:
    row_id, _, *columns, created_at, updated_at = row
    return StoredPerformer(row_id, _performer(*columns), created_at, updated_at)


def _performer(
    sharegram_id: str, deleted_at: datetime | None, decided: Mapping[str, Any] | None, *rest: Any
) -> Performer:
    *values, versions = rest
    write_versions = {name: _write_version(*version) for name, version in versions.items()}
    fields = dict(zip(FIELDS, values, strict=True))
    if decided is None:
        return Performer(sharegram_id, fields, write_versions, deleted_at)
    fields["status"] = decided["sharegramStatus"]
    return Performer(sharegram_id, fields, write_versions, deleted_at, _decision(decided))


def _decision(document: Mapping[str, Any]) -> StatusDecision:
    version, resumes = document["basisVersion"], document["resumes"]
    return StatusDecision(
        document["status"],
        document["at"],
        document["basis"],
        version and WriteVersion(*version),
        document["until"],
        resumes and _decision(resumes),
        document["by"],
        document["reason"],
        document["notes"],
    )


def _decision_document(decision: StatusDecision) -> dict[str, object]:
    return {
        "status": decision.status,
        "at": decision.at_micros,
        "basis": decision.basis,
        "basisVersion": decision.basis_version and tuple(decision.basis_version),
        "until": decision.until_micros,
        "resumes": decision.resumes and _decision_document(decision.resumes),
        "by": decision.decided_by,
        "reason": decision.reason,
        "notes": decision.notes,
    }


@lru_cache(maxsize=4096)
def _write_version(version: int | None, at_micros: int, arrival: int = 0) -> WriteVersion:
    """Return one shared object for equal versions: all fields of a performer have the same after a whole profile."""
    return WriteVersion(version, at_micros, arrival)


def _row(performer: Performer, sequence: int, now: datetime) -> tuple[object, ...]:
    versions = {name: tuple(version) for name, version in performer.write_versions.items()}
    values, decision = map(performer.visible_fields.get, FIELDS), performer.decision
    decided, until = None, None
    if decision is not None:
        decided = {**_decision_document(decision), "sharegramStatus": performer.fields["status"]}
        until = decision.until_micros and _EPOCH + timedelta(microseconds=decision.until_micros)
    return (performer.sharegram_id, *values, versions, now, now, sequence, performer.deleted_at, decided, until)
