"""The mirror of Sharegram's performers: written by sync-worker, read by the gateway."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, for_update, upsert
from safevideo_common.database.tables import performers
from safevideo_common.domain.ordering import Stamp
from safevideo_common.domain.performers import FIELDS, Performer


@dataclass(frozen=True, slots=True)
class StoredPerformer:
    """A performer with what only the database knows."""

    id: int
    performer: Performer
    created_at: datetime
    updated_at: datetime


_c: Final = performers.c
_BY_SHAREGRAM_ID: Final = for_update(
    select(performers).where(_c.sharegram_id.in_(bindparam("sharegram_ids", expanding=True))).order_by(_c.sharegram_id)
)
_WRITTEN: Final = ("sharegram_id", *FIELDS, "field_stamps", "created_at", "updated_at")
_INSERT: Final = Bulk(insert(performers), _WRITTEN)
_UPDATE: Final = Bulk(upsert(performers, ("id",), (*FIELDS, "field_stamps", "updated_at")), ("id", *_WRITTEN))


async def load_for_update(tx: AsyncConnection, sharegram_ids: Iterable[str]) -> Mapping[str, StoredPerformer]:
    """Those of them that exist, by Sharegram id, locked until the transaction ends."""
    found: dict[str, StoredPerformer] = {}
    for some in chunks(sharegram_ids):
        rows = await tx.execute(_BY_SHAREGRAM_ID, {"sharegram_ids": some})
        found |= {row.sharegram_id: _stored(row) for row in rows}
    return found


async def insert_new(tx: AsyncConnection, new: Iterable[Performer], now: datetime) -> None:
    """Insert performers that `load_for_update` did not find.

    Raises `DatabaseConflict` if another transaction has inserted one of them since.
    """
    await _INSERT.execute(tx, (_row(performer, now) for performer in new))


async def update(tx: AsyncConnection, changed: Iterable[StoredPerformer], now: datetime) -> None:
    """Write performers that `load_for_update` found, in one statement."""
    # The rows exist and are locked, so it never inserts.
    await _UPDATE.execute(tx, ((stored.id, *_row(stored.performer, now)) for stored in changed))


async def get(reading: AsyncConnection, performer_id: int) -> StoredPerformer | None:
    """The performer with our id."""
    row = (await reading.execute(select(performers).where(_c.id == performer_id))).one_or_none()
    return _stored(row) if row else None


async def id_of(reading: AsyncConnection, sharegram_id: str) -> int | None:
    """Our id of a performer."""
    found: int | None = await reading.scalar(select(_c.id).where(_c.sharegram_id == sharegram_id))
    return found


def _stored(row: Row[*tuple[Any, ...]]) -> StoredPerformer:
    row_id, sharegram_id, *values, stamps, created_at, updated_at = row  # in the order of the table
    performer = Performer(
        sharegram_id,
        dict(zip(FIELDS, values, strict=True)),
        {name: _stamp(version, at_micros) for name, (version, at_micros) in stamps.items()},
    )
    return StoredPerformer(row_id, performer, created_at, updated_at)


@lru_cache(maxsize=4096)
def _stamp(version: int | None, at_micros: int) -> Stamp:
    """Made once where the fields of a performer have the same, as they have after each whole profile."""
    return Stamp(version, at_micros)


def _row(performer: Performer, now: datetime) -> tuple[object, ...]:
    stamps = {name: (stamp.version, stamp.at_micros) for name, stamp in performer.stamps.items()}
    return (performer.sharegram_id, *map(performer.fields.get, FIELDS), stamps, now, now)
