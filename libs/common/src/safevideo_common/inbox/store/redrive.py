"""Taking events up again that died, or that wait for their time: what an operator may change in the inbox.

A dead event that is taken up waits without a time of its own: it is tried as soon as it is the first of its
performer's queue, and what came after it queues behind. Rows are locked in the order of their ids, so that several
who do this wait for each other.
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
"""The code of what is no event at all: without an envelope its payload says nothing."""
WAS_DEAD: Final = "REDRIVEN: it was dead: "

_c: Final = event_inbox.c
_CODE: Final = case(
    (_c.reason.contains(":"), func.substr(_c.reason, 1, func.instr(_c.reason, ":") - 1)),
    else_=func.coalesce(_c.reason, ""),
)
_IS_READABLE: Final = and_(_c.payload.is_not(None), or_(_c.reason.is_(None), _c.reason.not_like(f"{UNREADABLE}:%")))


@dataclass(frozen=True, slots=True)
class RedriveFilter:
    """What to take up; all conditions hold at once. The range is of `received_at`, its end excluded.

    Of what waits only that is meant whose time has not come: the rest is due as it is, or behind something.
    """

    status: Literal[Status.DEAD, Status.WAITING] = Status.DEAD
    event_type: str | None = None
    performer_id: str | None = None
    reason: str | None = None
    """How the code of the reason begins."""
    group: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


class RedriveCount(NamedTuple):
    """How many of one type, reason code and group there are, and how many of them can be taken up."""

    event_type: str
    code: str
    group: str
    events: int
    redrivable: int


class RedriveCandidate(NamedTuple):
    """A row, locked, and what decides whether it can be taken up."""

    row_id: int
    group: str
    status: Status
    code: str
    is_readable: bool

    @property
    def can_be_taken_up(self) -> bool:
        """Whether trying it again means anything."""
        return self.is_readable and self.status in {Status.DEAD, Status.WAITING}


async def count_redrivable(reading: AsyncConnection, wanted: RedriveFilter, now: datetime) -> list[RedriveCount]:
    """All that match, counted."""
    code = _CODE.label("code")
    redrivable = func.sum(case((_IS_READABLE, literal_column("1")), else_=literal_column("0")))
    rows = await reading.execute(
        select(_c.event_type, code, _c.consumer_group, func.count(), redrivable)
        .where(*_conditions(wanted, now))
        .group_by(_c.event_type, code, _c.consumer_group)
        .order_by(_c.event_type, code, _c.consumer_group)
    )
    return [RedriveCount(event_type, code, group, events, int(some)) for event_type, code, group, events, some in rows]


async def redrivable(reading: AsyncConnection, wanted: RedriveFilter, now: datetime, limit: int) -> list[int]:
    """The row ids of those that match and can be taken up, in the order of arrival."""
    rows = await reading.scalars(
        select(_c.id).where(*_conditions(wanted, now), _IS_READABLE).order_by(_c.id).limit(limit)
    )
    return list(rows)


async def lock(tx: AsyncConnection, row_ids: Sequence[int], group: str | None = None) -> list[RedriveCandidate]:
    """Those of the rows that are there, in the order of arrival, locked; at most a few hundred at a time."""
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
    """What is dead waits, with all its tries before it; what waits is due. The rows must be locked."""
    if row_ids:
        some = _c.id.in_(row_ids)
        await tx.execute(update(event_inbox).where(some, _c.status == Status.WAITING).values(next_try_at=now))
        await tx.execute(update(event_inbox).where(some, _c.status == Status.DEAD).values(_REVIVED))


_REVIVED: Final = {
    # In this order: on MySQL a later assignment sees what an earlier one has set.
    "reason": func.substr(WAS_DEAD + func.coalesce(_c.reason, ""), 1, REASON_LENGTH),
    "status": Status.WAITING,
    "tries": 0,
    "next_try_at": null(),
}


def _conditions(wanted: RedriveFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [_c.status == wanted.status]
    if wanted.status is Status.WAITING:
        conditions.append(_c.next_try_at > now)
    if wanted.reason is not None:
        conditions.append(_c.reason.startswith(wanted.reason, autoescape=True))
    return [
        *conditions,
        *equal(
            (_c.event_type, wanted.event_type),
            (_c.performer_id, wanted.performer_id),
            (_c.consumer_group, wanted.group),
        ),
        *within(_c.received_at, wanted.received_from, wanted.received_to),
    ]
