"""Queries of the inbox for operators: pages of received events, and single events."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal, NotRequired, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import time_of
from safevideo_common.events.topics import CONSUMED, TOPIC_BY_TYPE

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
    statuses: Sequence[Status | Literal["duplicate"]] = ()
    """One of these; empty: any."""
    received_from: datetime | None = None
    received_to: datetime | None = None
    request_id: str | None = None
    """The id of the request that brought the event, which all its log lines have. No index has it: add a range."""
    reason: str | None = None
    """The beginning of the reason. No index has it."""


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
    event_version: int | None = None
    """The provider's. None if it sent none, or the event was not compared with other writes."""
    fields_won: tuple[str, ...] = ()
    fields_overtaken: Mapping[str, WriteVersion] = field(default_factory=dict)
    """The writes that owned the lost fields when the event was decided."""
    payload: bytes | None = None


class OvertakenFieldDocument(TypedDict):
    """A field that a newer write owns. `eventId` is null if the inbox has no event of that write; lists do not say."""

    field: str
    version: int | None
    occurredAt: TimestampText
    eventId: NotRequired[str | None]


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
    version: int | None
    won: list[str]
    overtaken: list[OvertakenFieldDocument]
    advice: str | None


def event_document(record: InboxRecord, writers: Mapping[WriteVersion, str] | None = None) -> EventDocument:
    """Return an event as the API and the tools show it, `writers` being the result of `last_writers`.

    Its payload is personal data and not part of it.
    """
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
        "version": record.event_version,
        "won": list(record.fields_won),
        "overtaken": [_overtaken(name, write, writers) for name, write in record.fields_overtaken.items()],
        "advice": _advice(record),
    }


def _advice(record: InboxRecord) -> str | None:
    """Return what applies an event that was ignored because its type was unknown then, if it is known now."""
    if record.status is not Status.IGNORED or record.reason or record.event_type not in TOPIC_BY_TYPE:
        return None
    target = next(group for group, topics in CONSUMED.items() if TOPIC_BY_TYPE[record.event_type] in topics)
    if record.source_topic not in CONSUMED[target]:
        return "This release knows the type, but its worker does not read that topic: ask Sharegram to send it again."
    return (
        f"This release knows the type. To apply it: safevideo replay --topic {record.source_topic} "
        f"--target {target} --type {record.event_type} --force --yes"
    )


def _overtaken(name: str, write: WriteVersion, writers: Mapping[WriteVersion, str] | None) -> OvertakenFieldDocument:
    document: OvertakenFieldDocument = {"field": name, "version": write.version, "occurredAt": rfc3339(time_of(write))}
    return document if writers is None else {**document, "eventId": writers.get(write)}


_COLUMNS: Final = (
    _c.id.label("row_id"),
    *(_c[each.name] for each in fields(InboxRecord) if each.name not in {"row_id", "payload"}),
)


async def find(
    reading: AsyncConnection,
    matching: InboxFilter,
    *,
    page: int,
    limit: int,
    sort: Sort = "received_at",
    order: Order = "desc",
    after: int | None = None,
) -> tuple[list[InboxRecord], int]:
    """Return one page, counted from 1, and how many there are in all. Ties are in the order of arrival.

    `after` is the id of a row: the page is what follows it.
    """
    query = select(*_COLUMNS).where(*_conditions(matching))
    rows, total = await find_page(reading, query, (_c[sort], _c.id), page=page, limit=limit, order=order, after=after)
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


async def last_received_at(reading: AsyncConnection) -> datetime | None:
    """Return the time at which the newest event was received, or None if the inbox is empty."""
    return await reading.scalar(select(_c.received_at).order_by(_c.received_at.desc()).limit(1))


async def last_writers(
    reading: AsyncConnection, group: str, performer_id: str | None, writes: Iterable[WriteVersion]
) -> dict[WriteVersion, str]:
    """Return the event ids of writes about one performer. A write of a pruned event has none."""
    by_arrival = {write.arrival: write for write in writes}
    if not by_arrival:
        return {}
    rows = await reading.execute(
        select(_c.event_id, _c.source_offset, _c.occurred_at).where(
            _c.consumer_group == group, _c.performer_id == performer_id, _c.source_offset.in_(by_arrival)
        )
    )
    found = ((by_arrival[offset], event_id, at) for event_id, offset, at in rows)
    return {write: event_id for write, event_id, at in found if time_of(write) == at}


async def writers_of_overtaken_fields(reading: AsyncConnection, record: InboxRecord) -> dict[WriteVersion, str]:
    """Return the event ids of the writes that kept a field from an event."""
    return await last_writers(reading, record.consumer_group, record.performer_id, record.fields_overtaken.values())


async def find_unapplied(reading: AsyncConnection, group: str, performer_id: str, limit: int) -> list[InboxRecord]:
    """Return the newest events of a performer that are not applied, or applied only in part."""
    is_partial = _c.fields_overtaken.is_not(None)
    query = select(*_COLUMNS).where(
        _c.performer_id == performer_id, _c.consumer_group == group, or_(_c.status != Status.APPLIED, is_partial)
    )
    return [_record(row) for row in await reading.execute(query.order_by(_c.id.desc()).limit(limit))]


def _conditions(matching: InboxFilter) -> list[ColumnElement[bool]]:
    of_status: list[ColumnElement[bool]] = [_c.status.in_([each for each in matching.statuses if each != "duplicate"])]
    if "duplicate" in matching.statuses:
        of_status.append(_c.duplicates > 0)
    return [
        *equal(
            (_c.event_type, matching.event_type),
            (_c.performer_id, matching.performer_id),
            (_c.request_id, matching.request_id),
        ),
        *([or_(*of_status)] if matching.statuses else []),
        *([] if matching.reason is None else [_c.reason.startswith(matching.reason, autoescape=True)]),
        *within(_c.received_at, matching.received_from, matching.received_to),
    ]


def _record(row: Row[*tuple[Any, ...]]) -> InboxRecord:
    won = tuple(row.fields_won.split(",")) if row.fields_won else ()
    # By name: MySQL keeps the keys of a document in an order of its own.
    overtaken = {name: WriteVersion(*write) for name, write in sorted((row.fields_overtaken or {}).items())}
    parsed = {"status": Status(row.status), "fields_won": won, "fields_overtaken": overtaken}
    return InboxRecord(**row._asdict() | parsed)
