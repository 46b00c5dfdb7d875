"""The mirror of Sharegram's performers: written by sync-worker, read by the gateway."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert, for_update
from safevideo_common.database.tables import performers
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import FIELDS, Performer


class LockedPerformer(NamedTuple):
    """A performer whose row is locked, and our id of it."""

    id: int
    performer: Performer


@dataclass(frozen=True, slots=True)
class StoredPerformer:
    """A performer with what only the database knows."""

    id: int
    performer: Performer
    created_at: datetime
    updated_at: datetime


_c: Final = performers.c
_READ: Final = (_c.id, _c.sharegram_id, *(_c[name] for name in FIELDS), _c.field_stamps)
_BY_SHAREGRAM_ID: Final = (
    select(*_READ).where(_c.sharegram_id.in_(bindparam("sharegram_ids", expanding=True))).order_by(_c.sharegram_id)
)
_LOCKED: Final = for_update(_BY_SHAREGRAM_ID)
_BY_ID: Final = select(*_READ, _c.created_at, _c.updated_at).where(_c.id == bindparam("id"))
_WRITTEN: Final = ("sharegram_id", *FIELDS, "field_stamps", "created_at", "updated_at")
_INSERT: Final = Bulk(insert(performers), _WRITTEN)
_UPDATE: Final = Bulk(Upsert(performers, ("id",), (*FIELDS, "field_stamps", "updated_at")), ("id", *_WRITTEN))


async def load_for_update(tx: AsyncConnection, sharegram_ids: Iterable[str]) -> Mapping[str, LockedPerformer]:
    """Those of them that exist, by Sharegram id, locked until the transaction ends."""
    return await _load(tx, _LOCKED, sharegram_ids)


async def load(reading: AsyncConnection, sharegram_ids: Iterable[str]) -> Mapping[str, LockedPerformer]:
    """The same without locks: they may be others by now."""
    return await _load(reading, _BY_SHAREGRAM_ID, sharegram_ids)


async def insert_new(tx: AsyncConnection, new: Iterable[Performer], now: datetime) -> None:
    """Insert performers that `load_for_update` did not find.

    Raises `DatabaseConflict` if another transaction has inserted one of them since.
    """
    await _INSERT.execute(tx, (_row(performer, now) for performer in new))


async def update(tx: AsyncConnection, changed: Iterable[LockedPerformer], now: datetime) -> None:
    """Write performers that `load_for_update` found, in one statement."""
    # The rows exist and are locked, so it never inserts.
    await _UPDATE.execute(tx, ((row_id, *_row(performer, now)) for row_id, performer in changed))


async def get(reading: AsyncConnection, performer_id: int) -> StoredPerformer | None:
    """The performer with our id."""
    row = (await reading.execute(_BY_ID, {"id": performer_id})).one_or_none()
    return row and _stored(row)


async def id_of(reading: AsyncConnection, sharegram_id: str) -> int | None:
    """Our id of a performer."""
    found: int | None = await reading.scalar(select(_c.id).where(_c.sharegram_id == sharegram_id))
    return found


async def _load(
    connection: AsyncConnection, query: Select[*tuple[Any, ...]], sharegram_ids: Iterable[str]
) -> Mapping[str, LockedPerformer]:
    found: dict[str, LockedPerformer] = {}
    for some in chunks(sharegram_ids):
        for row_id, *mirrored in await connection.execute(query, {"sharegram_ids": some}):
            performer = _performer(*mirrored)
            found[performer.sharegram_id] = LockedPerformer(row_id, performer)
    return found


def _stored(row: Row[*tuple[Any, ...]]) -> StoredPerformer:
    row_id, *mirrored, created_at, updated_at = row
    return StoredPerformer(row_id, _performer(*mirrored), created_at, updated_at)


def _performer(sharegram_id: str, *rest: Any) -> Performer:
    *values, stamps = rest
    written = {name: _write_version(*stamp) for name, stamp in stamps.items()}
    return Performer(sharegram_id, dict(zip(FIELDS, values, strict=True)), written)


@lru_cache(maxsize=4096)
def _write_version(version: int | None, at_micros: int, arrival: int = 0) -> WriteVersion:
    """Made once where the fields of a performer have the same, as they have after each whole profile."""
    return WriteVersion(version, at_micros, arrival)


def _row(performer: Performer, now: datetime) -> tuple[object, ...]:
    stamps = {name: tuple(stamp) for name, stamp in performer.stamps.items()}
    return (performer.sharegram_id, *map(performer.fields.get, FIELDS), stamps, now, now)
