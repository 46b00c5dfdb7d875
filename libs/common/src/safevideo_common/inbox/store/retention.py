"""What keeps the inbox from growing for ever, and how large it is. Every look costs the same with a million rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import and_, bindparam, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import estimate_row_count
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status

MAX_COUNTED: Final = 100_000
"""Of one status: beyond, the exact number helps nobody, and counting is no longer quick."""

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
    or_(
        _c.status.in_(_SETTLED),
        and_(_c.status == Status.DEAD, _c.received_at < bindparam("dead_before", type_=_c.received_at.type)),
    ),
)
_of_status: Final = (_c.status == bindparam("status"), _c.consumer_group == bindparam("group"))
_COUNT: Final = select(func.count()).select_from(
    select(_c.id).where(*_of_status).limit(MAX_COUNTED).subquery("counted")
)
_OLDEST: Final = select(_c.received_at).where(_c.id == select(func.min(_c.id)).where(*_of_status).scalar_subquery())


class PagePosition(NamedTuple):
    """How far a pass over the old rows has come."""

    received_at: datetime
    row_id: int


class PrunedRows(NamedTuple):
    """What one chunk did. `place` is where the next one goes on; None when nothing old is left."""

    deleted: int
    place: PagePosition | None


class InboxSize(NamedTuple):
    """How large the inbox is: `rows` of all groups, as the server estimates them; the rest of one group."""

    rows: int
    waiting: int
    dead: int
    oldest_waiting: datetime | None
    """When it was received; None where none waits."""


async def prune(
    tx: AsyncConnection, after: PagePosition, *, before: datetime, dead_before: datetime, rows: int
) -> PrunedRows:
    """Look at the next `rows` that were received before the moment, and delete what nobody needs.

    That is what is settled, and what is dead and was received before `dead_before`, of every group. Rows that wait
    stay, however old; so does one that a redrive takes up meanwhile.
    """
    found = await tx.execute(_OLD, {"before": before, "at": after.received_at, "row_id": after.row_id, "limit": rows})
    places = [PagePosition(received_at, row_id) for row_id, received_at in found]
    deleted = await _delete(tx, [place.row_id for place in places], dead_before)
    return PrunedRows(deleted, places[-1] if len(places) == rows else None)


async def _delete(tx: AsyncConnection, row_ids: Sequence[int], dead_before: datetime) -> int:
    if not row_ids:
        return 0
    deleted = await tx.execute(_DELETE, {"row_ids": row_ids, "dead_before": dead_before})
    return deleted.rowcount


async def inbox_size(reading: AsyncConnection, group: str) -> InboxSize:
    """How large it is. Statuses are counted up to `MAX_COUNTED`."""
    waiting, dead = ({"status": status, "group": group} for status in (Status.WAITING, Status.DEAD))
    return InboxSize(
        await estimate_row_count(reading, event_inbox),
        await reading.scalar(_COUNT, waiting) or 0,
        await reading.scalar(_COUNT, dead) or 0,
        await reading.scalar(_OLDEST, waiting),
    )
