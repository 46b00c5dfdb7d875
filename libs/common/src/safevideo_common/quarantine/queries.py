"""Reading the quarantine for operators, without bodies and signatures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, TypedDict

from sqlalchemy import ColumnElement, Row, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import rejected_webhooks

_c: Final = rejected_webhooks.c

_EVENT_IDS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_TIMESTAMPS: Final = ("X-Sharegram-Timestamp", "webhook-timestamp")


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Conditions that must all match. The range is of `received_at`, without its end."""

    reason: str | None = None
    released: bool | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A rejected webhook without its body. Size and digest are those of the body as sent."""

    row_id: int
    received_at: datetime
    last_seen_at: datetime
    times_seen: int
    reason: str
    code: str
    scheme: str
    headers: Mapping[str, Sequence[str]]
    body_sha256: str
    body_bytes: int
    remote: str
    request_id: str | None
    released_at: datetime | None
    released_event_id: str | None


class RejectedDocument(TypedDict):
    """A rejected webhook without its body. `timestamp` is what its sender claims."""

    id: int
    receivedAt: TimestampText
    lastSeenAt: TimestampText
    timesSeen: int
    reason: str
    code: str
    scheme: str
    eventId: str | None
    timestamp: str | None
    bodyBytes: int
    bodySha256: str
    remote: str
    requestId: str | None
    releasedAt: TimestampText | None
    releasedEventId: str | None


def rejected_document(record: RejectedRecord) -> RejectedDocument:
    """Return the JSON document of a rejected webhook."""
    return {
        "id": record.row_id,
        "receivedAt": rfc3339(record.received_at),
        "lastSeenAt": rfc3339(record.last_seen_at),
        "timesSeen": record.times_seen,
        "reason": record.reason,
        "code": record.code,
        "scheme": record.scheme,
        "eventId": _first_header(record, _EVENT_IDS),
        "timestamp": _first_header(record, _TIMESTAMPS),
        "bodyBytes": record.body_bytes,
        "bodySha256": record.body_sha256,
        "remote": record.remote,
        "requestId": record.request_id,
        "releasedAt": format_timestamp(record.released_at),
        "releasedEventId": record.released_event_id,
    }


_COLUMNS: Final = (_c.id.label("row_id"), *(_c[each.name] for each in fields(RejectedRecord) if each.name != "row_id"))


async def find(
    reading: AsyncConnection,
    matching: RejectedFilter,
    *,
    page: int,
    limit: int,
    order: Order = "desc",
    after: int | None = None,
) -> tuple[list[RejectedRecord], int]:
    """Return one page by time of reception, counted from 1, and how many there are in all."""
    query = select(*_COLUMNS).where(*_conditions(matching))
    rows, total = await find_page(
        reading, query, (_c.received_at, _c.id), page=page, limit=limit, order=order, after=after
    )
    return [_record(row) for row in rows], total


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """The contents of the quarantine: webhooks that came lately, their reasons, and all that are not released."""

    recent: int
    recent_reasons: frozenset[str]
    waiting: int


async def summarize(reading: AsyncConnection, since: datetime) -> QuarantineSummary:
    """Return the summary. A webhook is recent if it came at `since` or later; each counts once."""
    is_recent = _c.last_seen_at >= since
    recent = func.coalesce(func.sum(case((is_recent, 1), else_=0)), 0)
    waiting = func.coalesce(func.sum(case((_c.released_at.is_(None), 1), else_=0)), 0)
    rows = (await reading.execute(select(_c.reason, recent, waiting).group_by(_c.reason))).all()
    reasons = frozenset(reason for reason, count, _ in rows if count)
    return QuarantineSummary(sum(int(row[1]) for row in rows), reasons, sum(int(row[2]) for row in rows))


async def get(connection: AsyncConnection, row_id: int) -> RejectedRecord | None:
    """Return one webhook, or None."""
    row = (await connection.execute(select(*_COLUMNS).where(_c.id == row_id))).one_or_none()
    return _record(row) if row else None


def _conditions(matching: RejectedFilter) -> list[ColumnElement[bool]]:
    of_release = {None: [], True: [_c.released_at.is_not(None)], False: [_c.released_at.is_(None)]}
    return [
        *equal((_c.reason, matching.reason)),
        *of_release[matching.released],
        *within(_c.received_at, matching.received_from, matching.received_to),
    ]


def _record(row: Row[*tuple[object, ...]]) -> RejectedRecord:
    return RejectedRecord(**row._asdict())


def _first_header(record: RejectedRecord, names: Sequence[str]) -> str | None:
    """Return the first value of the first of these headers that was sent."""
    return next((record.headers[name][0] for name in names if record.headers.get(name)), None)
