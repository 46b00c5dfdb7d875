"""SQL of scans: whom the newest complete scan has found, whom it misses, and up to when all changes are here."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert, for_update
from safevideo_common.database.tables import performer_scan_rows, performers, sync_watermarks

PERFORMERS: Final = "performers"

_c: Final = performer_scan_rows.c
_ROWS: Final = Bulk(
    Upsert(performer_scan_rows, ("job_id", "sharegram_id"), ("is_missing",)),
    ("job_id", "sharegram_id", "is_missing", "scan_started_at"),
)
_is_live: Final = performers.c.deleted_at.is_(None)


async def begin(tx: AsyncConnection) -> None:
    """Forget the rows of all earlier scans: an older list of missing performers can be confirmed no more."""
    await tx.execute(delete(performer_scan_rows))


async def record_found(tx: AsyncConnection, job_id: int, sharegram_ids: Iterable[str], started_at: datetime) -> None:
    """Record performers of a page. One that comes again is recorded once."""
    await _ROWS.execute(tx, ((job_id, name, False, started_at) for name in sorted(set(sharegram_ids))))


async def list_missing(tx: AsyncConnection, job_id: int, started_at: datetime) -> tuple[int, int]:
    """Replace the seen performers by those that are missing; return their number, and that of all live performers.

    Missing are the live performers that the scan has not seen and whose last write was before it began.
    """
    is_listed = and_(_c.job_id == job_id, _c.sharegram_id == performers.c.sharegram_id)
    missing = (
        select(performers.c.sharegram_id)
        .outerjoin(performer_scan_rows, is_listed)
        .where(_c.job_id.is_(None), _is_live, performers.c.updated_at < started_at)
    )
    names = (await tx.scalars(missing)).all()
    live = await tx.scalar(select(func.count()).select_from(performers).where(_is_live))
    await tx.execute(delete(performer_scan_rows))
    await _ROWS.execute(tx, ((job_id, name, True, started_at) for name in sorted(names)))
    return len(names), live or 0


async def missing_of(connection: AsyncConnection, job_id: int, limit: int) -> tuple[Sequence[str], datetime | None]:
    """Return at most `limit` of the listed performers, and when their scan began."""
    query = select(_c.sharegram_id, _c.scan_started_at).where(_c.job_id == job_id, _c.is_missing)
    rows = (await connection.execute(query.order_by(_c.sharegram_id).limit(limit))).all()
    return [row.sharegram_id for row in rows], rows[0].scan_started_at if rows else None


async def remove(tx: AsyncConnection, job_id: int, sharegram_ids: Collection[str]) -> None:
    """Take performers off the list."""
    for chunk in chunks(sharegram_ids):
        await tx.execute(delete(performer_scan_rows).where(_c.job_id == job_id, _c.sharegram_id.in_(chunk)))


async def watermark(connection: AsyncConnection) -> datetime | None:
    """Return the time up to which all changes at Sharegram are here, or None."""
    query = select(sync_watermarks.c.position).where(sync_watermarks.c.name == PERFORMERS)
    at: datetime | None = await connection.scalar(query)
    return at


async def advance_watermark(tx: AsyncConnection, position: datetime, now: datetime) -> None:
    """Move the watermark forward; never back. Raises `DatabaseConflict` if two processes write the first one."""
    of_performers = sync_watermarks.c.name == PERFORMERS
    last = await tx.scalar(for_update(select(sync_watermarks.c.position).where(of_performers)))
    values = {"position": position, "updated_at": now}
    if last is None:
        await tx.execute(insert(sync_watermarks).values(name=literal(PERFORMERS), **values))
    elif last < position:
        await tx.execute(update(sync_watermarks).where(of_performers).values(**values))
