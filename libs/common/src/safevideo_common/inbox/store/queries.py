"""Queries of the inbox for operators: pages of received events, and single events."""

import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal, TypedDict

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import ValidationFailed

Sort = Literal["received_at", "occurred_at", "decided_at"]

_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
EVENT_ID: Final = re.compile(r"[!-~]{1,128}")

_c: Final = event_inbox.c


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """The events to find: all conditions must hold. The range is of `received_at`, its end excluded.

    `duplicate` is not the status of a row: it finds events that were delivered more than once.
    """

    event_type: str | None = None
    performer_id: str | None = None
    status: Status | Literal["duplicate"] | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxRecord:
    """A row of the inbox. `payload` is read for a single event only, and kept while the event is waiting or dead."""

    row_id: int
    consumer_group: str
    event_id: str
    event_type: str
    performer_id: str | None
    source_topic: str
    source_partition: int
    source_offset: int
    occurred_at: datetime
    received_at: datetime
    decided_at: datetime
    status: Status
    reason: str | None
    tries: int
    next_try_at: datetime | None
    duplicates: int
    request_id: str | None
    body_sha256: str | None
    payload: bytes | None = None


class EventDocument(TypedDict):
    """A received event in one consumer group, and its outcome."""

    id: int
    eventId: str
    type: str
    performerId: str | None
    status: Status
    reason: str | None
    tries: int
    nextTryAt: TimestampText | None
    duplicates: int
    occurredAt: TimestampText
    receivedAt: TimestampText
    decidedAt: TimestampText
    consumerGroup: str
    topic: str
    partition: int
    offset: int
    requestId: str | None
    bodySha256: str | None


def event_document(record: InboxRecord) -> EventDocument:
    """Return an event as the API and the tools show it. Its payload is personal data and not part of it."""
    return {
        "id": record.row_id,
        "eventId": record.event_id,
        "type": record.event_type,
        "performerId": record.performer_id,
        "status": record.status,
        "reason": record.reason,
        "tries": record.tries,
        "nextTryAt": format_timestamp(record.next_try_at),
        "duplicates": record.duplicates,
        "occurredAt": rfc3339(record.occurred_at),
        "receivedAt": rfc3339(record.received_at),
        "decidedAt": rfc3339(record.decided_at),
        "consumerGroup": record.consumer_group,
        "topic": record.source_topic,
        "partition": record.source_partition,
        "offset": record.source_offset,
        "requestId": record.request_id,
        "bodySha256": record.body_sha256,
    }


_COLUMNS: Final = (
    _c.id.label("row_id"),
    *(_c[field.name] for field in fields(InboxRecord) if field.name not in {"row_id", "payload"}),
)


async def find(
    reading: AsyncConnection,
    matching: InboxFilter,
    *,
    page: int,
    limit: int,
    sort: Sort = "received_at",
    order: Order = "desc",
) -> tuple[list[InboxRecord], int]:
    """Return one page, counted from 1, and how many there are in all. Ties are in the order of arrival."""
    query = select(*_COLUMNS).where(*_conditions(matching))
    rows, total = await find_page(reading, query, (_c[sort], _c.id), page=page, limit=limit, order=order)
    return [_record(row) for row in rows], total


async def find_by_event_id(reading: AsyncConnection, event_or_row_id: str) -> list[InboxRecord]:
    """The row with this row id, or the rows of the event with this event id; digits are a row id first.

    Raises `ValidationFailed` for what can be neither.
    """
    if not EVENT_ID.fullmatch(event_or_row_id):
        raise ValidationFailed("Invalid id.", details={"id": "must be 1 to 128 visible ASCII characters"})
    if _ROW_ID.fullmatch(event_or_row_id) and (row := await get_by_row_id(reading, int(event_or_row_id))):
        return [row]
    return await get_by_event_id(reading, event_or_row_id)


async def get_by_row_id(reading: AsyncConnection, row_id: int) -> InboxRecord | None:
    """Return one row with its payload."""
    row = (await reading.execute(select(*_COLUMNS, _c.payload).where(_c.id == row_id))).one_or_none()
    return _record(row) if row else None


async def get_by_event_id(reading: AsyncConnection, event_id: str) -> list[InboxRecord]:
    """Return the rows of one event with their payloads, one for each consumer group."""
    rows = await reading.execute(select(*_COLUMNS, _c.payload).where(_c.event_id == event_id).order_by(_c.id))
    return [_record(row) for row in rows]


def _conditions(matching: InboxFilter) -> list[ColumnElement[bool]]:
    of_status = [_c.duplicates > 0] if matching.status == "duplicate" else equal((_c.status, matching.status))
    return [
        *equal((_c.event_type, matching.event_type), (_c.performer_id, matching.performer_id)),
        *of_status,
        *within(_c.received_at, matching.received_from, matching.received_to),
    ]


def _record(row: Row[*tuple[object, ...]]) -> InboxRecord:
    return InboxRecord(**row._asdict() | {"status": Status(row.status)})
