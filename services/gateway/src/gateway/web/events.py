"""`GET /api/v1/admin/events` and `/{id}`. The payload is personal data and is not shown."""

from datetime import datetime
from typing import Final, Literal

from aiohttp import web
from pydantic import Field

from gateway.handlers.events import BrowseEvents
from gateway.web.query import PageQuery, StorableMoment, pagination, parse_query
from safevideo_common.clock import rfc3339
from safevideo_common.database.inbox_browser import InboxFilter, InboxRecord, Sort
from safevideo_common.domain.outcomes import Status
from safevideo_common.web.envelope import success

_SORT: Final[dict[str, Sort]] = {
    "receivedAt": "received_at",
    "occurredAt": "occurred_at",
    "decidedAt": "decided_at",
}


class EventQuery(PageQuery):
    """Filters of the list; `from` and `to` are about `receivedAt`, the end excluded."""

    type: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    performer: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    status: Status | Literal["duplicate"] | None = None
    from_: StorableMoment | None = Field(None, alias="from")
    to: StorableMoment | None = None
    sort: Literal["receivedAt", "occurredAt", "decidedAt"] = "receivedAt"

    def filter(self) -> InboxFilter:
        """As the inbox wants it."""
        return InboxFilter(self.type, self.performer, self.status, self.from_, self.to)


class EventPages:
    """The event browser."""

    def __init__(self, browse: BrowseEvents) -> None:
        self._browse = browse

    async def list(self, request: web.Request) -> web.Response:
        """One page of events, newest first unless asked otherwise. Raises `ValidationFailed`."""
        query = parse_query(EventQuery, request)
        records, total = await self._browse.page(
            query.filter(), page=query.page, limit=query.limit, sort=_SORT[query.sort], order=query.order
        )
        extra = {"pagination": pagination(query.page, query.limit, total)}
        return success([event_json(record) for record in records], extra=extra)

    async def show(self, request: web.Request) -> web.Response:
        """One event, by row id or by event id. Raises `NotFound`, and `ValidationFailed` for what can be neither."""
        return success(event_json(await self._browse.one(request.match_info["id"])))


def event_json(record: InboxRecord) -> dict[str, object]:
    """An event as the API shows it."""
    return {
        "id": record.row_id,
        "eventId": record.event_id,
        "type": record.event_type,
        "performerId": record.performer_id,
        "status": record.status,
        "reason": record.reason,
        "tries": record.tries,
        "nextTryAt": _moment(record.next_try_at),
        "duplicates": record.duplicates,
        "occurredAt": _moment(record.occurred_at),
        "receivedAt": _moment(record.received_at),
        "decidedAt": _moment(record.decided_at),
        "consumerGroup": record.consumer_group,
        "topic": record.log_topic,
        "partition": record.log_partition,
        "offset": record.log_offset,
        "requestId": record.request_id,
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)
