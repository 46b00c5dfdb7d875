"""SQL of the redrive: find, count, lock and requeue dead and waiting events.

A redriven dead event becomes `waiting` without `next_try_at`. It is processed when it is first in its performer's
queue; later events of that performer wait. Rows are locked in the order of their ids, so concurrent redrives do not
deadlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, literal_column, null, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update
from safevideo_common.database.paging import equal, within
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store.rows import REASON_LENGTH

UNREADABLE: Final = "ENVELOPE_INVALID"
"""The reason code of a record without a valid envelope: its payload cannot be processed."""
CLOSED: Final = "CLOSED"
"""The reason code of an event that a person has given up."""
WAS_DEAD: Final = "REDRIVEN: it was dead: "

_c: Final = event_inbox.c
_CODE: Final = case(
    (_c.reason.contains(":"), func.substr(_c.reason, 1, func.instr(_c.reason, ":") - 1)),
    else_=func.coalesce(_c.reason, ""),
)
_IS_READABLE: Final = and_(_c.payload.is_not(None), or_(_c.reason.is_(None), _c.reason.not_like(f"{UNREADABLE}:%")))


@dataclass(frozen=True, slots=True)
class RedriveFilter:
    """The events to redrive: all conditions must hold. The range is of `received_at`, its end excluded.

    A waiting event matches only if its retry time is in the future. The others are due, or behind an earlier event.
    """

    status: Literal[Status.DEAD, Status.WAITING] = Status.DEAD
    event_type: str | None = None
    performer_id: str | None = None
    reason: str | None = None
    """Prefix of the reason code."""
    group: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


class RedriveCount(NamedTuple):
    """The number of matching and of redrivable events of one type, reason code and group."""

    event_type: str
    code: str
    group: str
    events: int
    redrivable: int


class RedriveCandidate(NamedTuple):
    """A locked row with the columns that decide whether it is redrivable."""

    row_id: int
    group: str
    status: Status
    code: str
    is_readable: bool

    @property
    def is_redrivable(self) -> bool:
        """Return True if a retry of the event can succeed."""
        return self.is_readable and self.status in {Status.DEAD, Status.WAITING}


async def count_redrivable(reading: AsyncConnection, matching: RedriveFilter, now: datetime) -> list[RedriveCount]:
    """Count the matching events."""
    code = _CODE.label("code")
    redrivable = func.sum(case((_IS_READABLE, literal_column("1")), else_=literal_column("0")))
    rows = await reading.execute(
        select(_c.event_type, code, _c.consumer_group, func.count(), redrivable)
        .where(*_conditions(matching, now))
        .group_by(_c.event_type, code, _c.consumer_group)
        .order_by(_c.event_type, code, _c.consumer_group)
    )
    return [RedriveCount(event_type, code, group, events, int(some)) for event_type, code, group, events, some in rows]


async def redrivable(reading: AsyncConnection, matching: RedriveFilter, now: datetime, limit: int) -> list[int]:
    """Return the row ids of matching redrivable events, in the order of arrival."""
    rows = await reading.scalars(
        select(_c.id).where(*_conditions(matching, now), _IS_READABLE).order_by(_c.id).limit(limit)
    )
    return list(rows)


async def lock(tx: AsyncConnection, row_ids: Sequence[int], group: str | None = None) -> list[RedriveCandidate]:
    """Lock the existing rows, in the order of arrival. At most a few hundred at a time."""
    rows = await tx.execute(
        for_update(
            select(_c.id, _c.consumer_group, _c.status, _CODE, _IS_READABLE)
            .where(_c.id.in_(row_ids), true() if group is None else _c.consumer_group == group)
            .order_by(_c.id)
        )
    )
    return [
        RedriveCandidate(row_id, name, Status(status), code, bool(is_ok)) for row_id, name, status, code, is_ok in rows
    ]


async def requeue(tx: AsyncConnection, row_ids: Sequence[int], now: datetime) -> None:
    """Make dead events wait, with all their attempts ahead, and waiting events due. The rows must be locked."""
    if row_ids:
        some = _c.id.in_(row_ids)
        await tx.execute(update(event_inbox).where(some, _c.status == Status.WAITING).values(next_try_at=now))
        await tx.execute(update(event_inbox).where(some, _c.status == Status.DEAD).values(_REVIVED))


async def close(tx: AsyncConnection, row_ids: Sequence[int], reason: str) -> None:
    """Give dead events up: `ignored`, with the reason of a person and without their bodies. The rows must be locked."""
    given_up = {
        "status": Status.IGNORED,
        "reason": f"{CLOSED}: {reason}"[:REASON_LENGTH],
        "payload": null(),
        "next_try_at": null(),
    }
    if row_ids:
        await tx.execute(update(event_inbox).where(_c.id.in_(row_ids), _c.status == Status.DEAD).values(given_up))


_REVIVED: Final = {
    # The order matters: in MySQL a later assignment sees the values of an earlier one.
    "reason": func.substr(WAS_DEAD + func.coalesce(_c.reason, ""), 1, REASON_LENGTH),
    "status": Status.WAITING,
    "tries": 0,
    "next_try_at": null(),
}


def _conditions(matching: RedriveFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [_c.status == matching.status]
    if matching.status is Status.WAITING:
        conditions.append(_c.next_try_at > now)
    if matching.reason is not None:
        conditions.append(_c.reason.startswith(matching.reason, autoescape=True))
    return [
        *conditions,
        *equal(
            (_c.event_type, matching.event_type),
            (_c.performer_id, matching.performer_id),
            (_c.consumer_group, matching.group),
        ),
        *within(_c.received_at, matching.received_from, matching.received_to),
    ]
