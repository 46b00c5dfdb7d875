"""What the gateway shows of the inbox: every webhook received and what became of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import ValidationFailed

Sort = Literal["received_at", "occurred_at", "decided_at"]
Order = Literal["asc", "desc"]

_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
EVENT_ID: Final = re.compile(r"[!-~]{1,128}")

_c: Final = event_inbox.c


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """What to look for; all conditions hold at once. The range is of `received_at`, its end excluded.

    `duplicate` is no status of a row: it finds the events that came more than once.
    """

    event_type: str | None = None
    performer_id: str | None = None
    status: Status | Literal["duplicate"] | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxRecord:
    """One row as an operator sees it. `payload` is read for a single event only, and kept while it waits or is dead."""

    row_id: int
    consumer_group: str
    event_id: str
    event_type: str
    performer_id: str | None
    log_topic: str
    log_partition: int
    log_offset: int
    occurred_at: datetime
    received_at: datetime
    decided_at: datetime
    status: Status
    reason: str | None
    tries: int
    next_try_at: datetime | None
    duplicates: int
    request_id: str | None
    payload: bytes | None = None


_SHOWN: Final = (
    _c.id.label("row_id"),
    *(_c[field.name] for field in fields(InboxRecord) if field.name not in {"row_id", "payload"}),
)


async def find(
    reading: AsyncConnection,
    wanted: InboxFilter,
    *,
    page: int,
    limit: int,
    sort: Sort = "received_at",
    order: Order = "desc",
) -> tuple[list[InboxRecord], int]:
    """One page, counted from 1, and how many there are in all. Ties are in the order of arrival."""
    conditions = _conditions(wanted)
    total = await reading.scalar(select(func.count()).select_from(event_inbox).where(*conditions))
    rows = await reading.execute(
        select(*_SHOWN).where(*conditions).order_by(*_order(sort, order)).limit(limit).offset((page - 1) * limit)
    )
    return [_record(row) for row in rows], total or 0


async def find_by_event_id(reading: AsyncConnection, given: str) -> list[InboxRecord]:
    """The row with this row id, or the rows of the event with this event id; digits are a row id first.

    Raises `ValidationFailed` for what can be neither.
    """
    if not EVENT_ID.fullmatch(given):
        raise ValidationFailed("This is no id.", details={"id": "must be 1 to 128 visible ASCII characters"})
    if _ROW_ID.fullmatch(given) and (row := await get_by_row_id(reading, int(given))):
        return [row]
    return await get_by_event_id(reading, given)


async def get_by_row_id(reading: AsyncConnection, row_id: int) -> InboxRecord | None:
    """One row with its payload."""
    row = (await reading.execute(select(*_SHOWN, _c.payload).where(_c.id == row_id))).one_or_none()
    return _record(row) if row else None


async def get_by_event_id(reading: AsyncConnection, event_id: str) -> list[InboxRecord]:
    """The rows of one event with their payloads, one for each group that consumes it."""
    rows = await reading.execute(select(*_SHOWN, _c.payload).where(_c.event_id == event_id).order_by(_c.id))
    return [_record(row) for row in rows]


def _conditions(wanted: InboxFilter) -> Sequence[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.event_type is not None:
        conditions.append(_c.event_type == wanted.event_type)
    if wanted.performer_id is not None:
        conditions.append(_c.performer_id == wanted.performer_id)
    if wanted.status is not None:
        conditions.append(_c.duplicates > 0 if wanted.status == "duplicate" else _c.status == wanted.status)
    if wanted.received_from is not None:  # SQLAlchemy cannot compare with None, so no column is compared before
        conditions.append(_c.received_at >= wanted.received_from)
    if wanted.received_to is not None:
        conditions.append(_c.received_at < wanted.received_to)
    return conditions


def _order(sort: Sort, order: Order) -> Sequence[ColumnElement[object]]:
    columns = (_c[sort], _c.id)
    return columns if order == "asc" else [column.desc() for column in columns]


def _record(row: Row[*tuple[object, ...]]) -> InboxRecord:
    return InboxRecord(**row._asdict() | {"status": Status(row.status)})
