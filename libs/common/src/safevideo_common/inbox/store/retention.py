"""SQL of the inbox pruner. Each statement takes the same time with a million rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import and_, bindparam, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import estimate_row_count, now_plus
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status

MAX_COUNTED: Final = 100_000
"""Of one status. Beyond this number counting is slow, and nobody needs the exact number."""

_SETTLED: Final = (Status.APPLIED, Status.STALE, Status.IGNORED)

_c: Final = event_inbox.c
_OLDEST_FIRST: Final = (_c.received_at, _c.id)  # the order of the index on received_at
_OLD: Final = (
    select(_c.id, _c.received_at)
    .where(
        _c.received_at < bindparam("before"),
        _c.received_at >= bindparam("at"),
        or_(_c.received_at > bindparam("at"), _c.id > bindparam("row_id")),
    )
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("limit"))
)
_DELETE: Final = delete(event_inbox).where(
    _c.id.in_(bindparam("row_ids", expanding=True)),
    _c.decided_at < bindparam("before", type_=_c.decided_at.type),  # the producer's clock may be behind
    or_(
        _c.status.in_(_SETTLED),
        and_(_c.status == Status.DEAD, _c.received_at < bindparam("dead_before", type_=_c.received_at.type)),
    ),
)
_NOW: Final = select(now_plus())
_of_status: Final = (_c.status == bindparam("status"), _c.consumer_group == bindparam("group"))
_COUNT: Final = select(func.count()).select_from(
    select(_c.id).where(*_of_status).limit(MAX_COUNTED).subquery("counted")
)
_OLDEST: Final = select(_c.received_at).where(_c.id == select(func.min(_c.id)).where(*_of_status).scalar_subquery())


class PagePosition(NamedTuple):
    """The last row of a chunk."""

    received_at: datetime
    row_id: int


class PrunedRows(NamedTuple):
    """The result of one chunk. `position` is the start of the next one; None if no old row is left."""

    deleted: int
    position: PagePosition | None


class InboxSize(NamedTuple):
    """The size of the inbox: `rows` of all groups, estimated by the server; the rest of one group."""

    rows: int
    waiting: int
    dead: int
    oldest_waiting: datetime | None
    """The time of receipt; None if no event is waiting."""


async def database_time(connection: AsyncConnection) -> datetime:
    """Return the time by the database's clock, which is one for all workers."""
    now = await connection.scalar(_NOW)
    assert isinstance(now, datetime)
    return now


async def prune_chunk(
    tx: AsyncConnection, after: PagePosition, *, before: datetime, dead_before: datetime, rows: int
) -> PrunedRows:
    """Read the next `rows` that were received before `before`, and delete those that are no longer needed.

    These are settled rows, and dead rows that were received before `dead_before`, of every group. Waiting rows stay,
    also a row that is redriven at the same time.
    """
    found = await tx.execute(_OLD, {"before": before, "at": after.received_at, "row_id": after.row_id, "limit": rows})
    positions = [PagePosition(received_at, row_id) for row_id, received_at in found]
    deleted = await _delete(tx, [each.row_id for each in positions], before, dead_before)
    return PrunedRows(deleted, positions[-1] if len(positions) == rows else None)


async def _delete(tx: AsyncConnection, row_ids: Sequence[int], before: datetime, dead_before: datetime) -> int:
    if not row_ids:
        return 0
    deleted = await tx.execute(_DELETE, {"row_ids": row_ids, "before": before, "dead_before": dead_before})
    return deleted.rowcount


async def inbox_size(reading: AsyncConnection, group: str) -> InboxSize:
    """Measure the inbox. Statuses are counted up to `MAX_COUNTED`."""
    waiting, dead = ({"status": status, "group": group} for status in (Status.WAITING, Status.DEAD))
    return InboxSize(
        await estimate_row_count(reading, event_inbox),
        await reading.scalar(_COUNT, waiting) or 0,
        await reading.scalar(_COUNT, dead) or 0,
        await reading.scalar(_OLDEST, waiting),
    )
