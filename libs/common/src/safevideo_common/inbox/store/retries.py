"""SQL of the waiting events.

The events of a performer wait in a queue, in the order of arrival; only the head decides when the queue is due. An
event without a performer waits alone.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from itertools import takewhile
from typing import Final

from sqlalchemy import bindparam, func, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update, force_index
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.inbox.store.rows import REASON_LENGTH, outcome_columns

_c: Final = event_inbox.c
_is_waiting: Final = (_c.status == Status.WAITING, _c.consumer_group == bindparam("group"))


@dataclass(frozen=True, slots=True)
class QueueHead:
    """The first waiting event of a performer, or a waiting event without a performer."""

    row_id: int
    performer_id: str | None


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """A waiting event with all that a retry needs."""

    row_id: int
    event_id: str
    event_type: str
    performer_id: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    occurred_at: datetime
    received_at: datetime
    request_id: str | None
    tries: int
    next_try_at: datetime | None
    payload: bytes


_heads: Final = union_all(
    select(func.min(_c.id).label("id")).where(*_is_waiting, _c.performer_id.is_not(None)).group_by(_c.performer_id),
    select(_c.id).where(*_is_waiting, _c.performer_id.is_(None)),
).subquery("heads")
# Without these hints MariaDB reads all events of a performer, or sorts all waiting events.
_BY_QUEUE: Final = "idx_event_inbox_status"
_BY_TIME: Final = "idx_event_inbox_due"

_earlier: Final = event_inbox.alias("earlier")
_is_behind: Final = force_index(
    select(_earlier.c.id).where(  # none without a performer
        _earlier.c.status == Status.WAITING,
        _earlier.c.consumer_group == bindparam("group"),
        _earlier.c.performer_id == _c.performer_id,
        _earlier.c.id < _c.id,
    ),
    _earlier,
    _BY_QUEUE,
).exists()
_DUE: Final = force_index(
    select(_c.id, _c.performer_id)
    .where(*_is_waiting, _c.next_try_at <= bindparam("now"), ~_is_behind)
    .order_by(_c.next_try_at)
    .limit(bindparam("limit")),
    event_inbox,
    _BY_TIME,
)
_UNSCHEDULED: Final = (
    select(_c.id, _c.performer_id)
    .join(_heads, _heads.c.id == _c.id)
    .where(_c.next_try_at.is_(None))
    .limit(bindparam("limit"))
)
_QUEUE: Final = for_update(
    select(_c.id.label("row_id"), *(_c[field.name] for field in fields(WaitingEvent) if field.name != "row_id")).where(
        *_is_waiting
    )
)
_QUEUE_OF_PERFORMER: Final = force_index(
    _QUEUE.where(_c.performer_id == bindparam("performer_id")).order_by(_c.id).limit(bindparam("limit")),
    event_inbox,
    _BY_QUEUE,
)
_QUEUE_OF_ONE: Final = _QUEUE.where(_c.id == bindparam("row_id"), _c.performer_id.is_(None))
_ROW: Final = update(event_inbox).where(_c.id == bindparam("row_id"))


async def due_heads(connection: AsyncConnection, group: str, now: datetime, limit: int) -> list[QueueHead]:
    """Return the heads whose retry time has come, the oldest first. Other waiting events cost nothing."""
    rows = await connection.execute(_DUE, {"group": group, "now": now, "limit": limit})
    return [QueueHead(row_id, performer_id) for row_id, performer_id in rows]


async def unscheduled_heads(connection: AsyncConnection, group: str, limit: int) -> list[QueueHead]:
    """Return the heads without a retry time. They are due: the event before them is complete, or they were redriven.

    The query reads each queue, so its cost grows with the number of waiting events.
    """
    rows = await connection.execute(_UNSCHEDULED, {"group": group, "limit": limit})
    return [QueueHead(row_id, performer_id) for row_id, performer_id in rows]


async def waiting_of(tx: AsyncConnection, group: str, head: QueueHead, now: datetime, limit: int) -> list[WaitingEvent]:
    """Lock and return the queue from `head` on, at most `limit` events in the order of arrival.

    It ends before the first event that is not due. If that is the head, the result is empty: another member of the
    group has processed it since it was found.
    """
    if head.performer_id is None:
        rows = await tx.execute(_QUEUE_OF_ONE, {"group": group, "row_id": head.row_id})
    else:
        rows = await tx.execute(
            _QUEUE_OF_PERFORMER, {"group": group, "performer_id": head.performer_id, "limit": limit}
        )
    queue = (WaitingEvent(*row) for row in rows)
    return list(takewhile(lambda event: event.next_try_at is None or event.next_try_at <= now, queue))


async def complete(tx: AsyncConnection, row_id: int, outcome: Outcome, decided_at: datetime) -> None:
    """Set the final outcome of a waiting event. Only a dead event keeps its payload."""
    changes = {"status": outcome.status, "next_try_at": None, **outcome_columns(outcome)}
    if outcome.status is not Status.DEAD:
        changes["payload"] = None
    await tx.execute(_ROW.values(decided_at=decided_at, **changes), {"row_id": row_id})


async def reschedule(tx: AsyncConnection, row_id: int, next_try_at: datetime, tries: int, reason: str) -> None:
    """Set the time of the next attempt; `tries` attempts have failed, the last for `reason`."""
    changes = {"next_try_at": next_try_at, "tries": tries, "reason": reason[:REASON_LENGTH]}
    await tx.execute(_ROW.values(**changes), {"row_id": row_id})


async def make_due(tx: AsyncConnection, group: str, performer_id: str, now: datetime) -> None:
    """Let the waiting events of a performer be tried again at once: what they wait for is there."""
    mine = (_c.status == Status.WAITING, _c.consumer_group == group, _c.performer_id == performer_id)
    await tx.execute(update(event_inbox).where(*mine, _c.next_try_at > now).values(next_try_at=now))
