"""`/api/v1/admin/events`: list and show received events; retry one event, redrive many.

The payload is personal data and is never part of a response.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.http.body import Body, BodyTimestamp, parse_body, parse_field
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, READERS, Endpoint, Returns, Shape, VisibleAscii
from gateway.http.query import KeyedPageQuery, Query, StorableTimestamp, parse_query
from gateway.http.sentence import Sentence
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import InvalidStatusTransition, NotFound, ValidationFailed
from safevideo_common.inbox.redrive import MAX_CLOSE_REASON, MAX_EVENTS, RedriveDocument, RedriveService
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import EventDocument, InboxFilter, Sort, event_document
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success

MAX_EVENTS_PER_REDRIVE: Final = 100_000

_SORT: Final[dict[str, Sort]] = {
    "receivedAt": "received_at",
    "occurredAt": "occurred_at",
    "decidedAt": "decided_at",
}

_Type = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
_PerformerId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
_Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


_STATUSES: Final[Mapping[str, Status | Literal["duplicate"]]] = {
    **{each.value: each for each in Status},
    "duplicate": "duplicate",
}


def _statuses(value: object) -> object:
    if isinstance(value, str) and not set(value.split(",")) <= _STATUSES.keys():
        raise ValueError(f"must be one or several, with commas, of {', '.join(map(repr, _STATUSES))}")
    return value


_Statuses = Annotated[str, BeforeValidator(_statuses), Field(examples=["dead", "dead,stale"])]


class EventQuery(KeyedPageQuery):
    """The filter of the list. `from` and `to` are a range of `receivedAt`, without its end."""

    type: _Type | None = None
    performer: _PerformerId | None = None
    status: _Statuses | None = None
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None
    request_id: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    reason: str | None = Field(None, pattern=r"^[A-Za-z0-9_]{1,64}$")
    sort: Literal["receivedAt", "occurredAt", "decidedAt"] = "receivedAt"

    def filter(self) -> InboxFilter:
        """Return the filter of the inbox."""
        statuses = [_STATUSES[name] for name in self.status.split(",")] if self.status else ()
        return InboxFilter(self.type, self.performer, statuses, self.from_, self.to, self.request_id, self.reason)


class GroupQuery(Query):
    """The consumer group whose row is meant, of an event that several groups consume."""

    group: _Group | None = None


class CloseBody(Body):
    """Why nothing will apply the event any more. No personal data: it is in the audit log."""

    reason: Annotated[Sentence, Field(max_length=MAX_CLOSE_REASON)]


class RedriveFilterBody(Body):
    """Conditions that must all match. `from` and `to` are a range of `receivedAt`, without its end."""

    type: _Type | None = None
    performer_id: _PerformerId | None = None
    status: Literal["dead", "waiting"] = "dead"
    reason: str | None = Field(None, pattern=r"^[A-Za-z0-9_]{1,64}$")
    group: _Group | None = None
    from_: BodyTimestamp | None = Field(None, alias="from")
    to: BodyTimestamp | None = None

    @property
    def matches_everything(self) -> bool:
        """Return whether there is no condition except the status."""
        return not self.model_fields_set - {"status"}

    def filter(self) -> RedriveFilter:
        """Return the filter of the inbox."""
        status: Literal[Status.DEAD, Status.WAITING] = Status.DEAD if self.status == "dead" else Status.WAITING
        return RedriveFilter(status, self.type, self.performer_id, self.reason, self.group, self.from_, self.to)


class RedriveBody(Body):
    """The events to redrive. Without `dryRun: false` nothing changes; an empty filter needs `all: true`."""

    filter: Annotated[dict[str, object], WithJsonSchema(RedriveFilterBody.model_json_schema())]
    all: bool = False
    dry_run: bool = True
    limit: int = Field(MAX_EVENTS, ge=1, le=MAX_EVENTS_PER_REDRIVE)

    def redrive_filter(self) -> RedriveFilter:
        """Return the filter of the inbox. Raises `ValidationFailed`, also if `all` contradicts the filter."""
        parsed = parse_field(RedriveFilterBody, self.filter, "filter")
        if parsed.matches_everything is not self.all:
            sentence = "leaves nothing out: say all: true" if not self.all else "says what to leave out, and all: true"
            raise ValidationFailed("Some members of the body are wrong.", details={"filter": sentence})
        return parsed.filter()


_EVENT: Final[EventDocument] = {
    "id": 17,
    "eventId": "evt_1002",
    "type": "performer.profile.updated",
    "performerId": "sg_ada",
    "status": Status.DEAD,
    "reason": "HANDLER_FAILED: KeyError",
    "tries": 8,
    "nextTryAt": None,
    "duplicates": 0,
    "occurredAt": "2026-11-24T20:58:25.123Z",
    "receivedAt": "2026-11-24T20:58:26.000Z",
    "decidedAt": "2026-11-24T21:13:40.400Z",
    "consumerGroup": "sync-worker",
    "topic": "sharegram.performer.v1",
    "partition": 4,
    "offset": 1201,
    "requestId": "0f8fad5bd9cb469fa16570867728950e",
    "bodySha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "version": None,
    "won": [],
    "overtaken": [],
    "advice": None,
}
_OVERTAKEN: Final[EventDocument] = {
    **_EVENT,
    "status": Status.STALE,
    "reason": "OVERTAKEN: displayName by version 9",
    "version": 7,
    "overtaken": [
        {
            "field": "displayName",
            "version": 9,
            "occurredAt": "2026-11-24T20:59:01.000Z",
            "eventId": "evt_1009",
        }
    ],
}
_RETRIED: Final[EventDocument] = {**_EVENT, "status": Status.WAITING, "reason": None, "tries": 0}
_CLOSED: Final[EventDocument] = {**_EVENT, "status": Status.IGNORED, "reason": "CLOSED: sent again as evt_1009"}
_REDRIVE: Final[RedriveDocument] = {
    "dryRun": True,
    "matching": 3,
    "redrivable": 2,
    "notRedrivable": 1,
    "byType": {"performer.profile.updated": 3},
    "byReason": {"HANDLER_FAILED": 3},
    "byGroup": {"sync-worker": 3},
    "sample": [17, 19],
    "redriven": 0,
    "complete": False,
}


class EventsApi:
    """The endpoints of received events."""

    def __init__(self, database: Database, redrive: RedriveService, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._redrive = redrive
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/events"
        ids = {"id": VisibleAscii}
        one, page = Returns(EventDocument, _OVERTAKEN), Returns(EventDocument, _EVENT, shape=Shape.PAGE)
        retried = Returns(EventDocument, _RETRIED, status=202, shape=Shape.LIST)
        return [
            Endpoint("GET", path, self.list, READERS, page, query=EventQuery),
            Endpoint("GET", f"{path}/{{id}}", self.show, READERS, one, (NotFound,), path_types=ids),
            Endpoint(
                "POST",
                f"{path}/redrive",
                self.redrive,
                ADMINS,
                Returns(RedriveDocument, _REDRIVE),
                body=RedriveBody,
                body_example={"filter": {"reason": "HANDLER_FAILED"}, "dryRun": True},
            ),
            Endpoint(
                "POST",
                f"{path}/{{id}}/retry",
                self.retry,
                ADMINS,
                retried,
                (NotFound, InvalidStatusTransition),
                query=GroupQuery,
                path_types=ids,
            ),
            Endpoint(
                *(
                    "POST",
                    f"{path}/{{id}}/close",
                    self.close,
                    ADMINS,
                    Returns(EventDocument, _CLOSED, shape=Shape.LIST),
                ),
                (NotFound, InvalidStatusTransition),
                body=CloseBody,
                body_example={"reason": "sent again as evt_1009"},
                query=GroupQuery,
                path_types=ids,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of events, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(EventQuery, request)
        async with self._database.read_connection() as connection:
            records, total = await inbox_queries.find(
                connection,
                query.filter(),
                page=query.page,
                limit=query.limit,
                sort=_SORT[query.sort],
                order=query.order,
                after=query.after,
            )
        return query.response(map(event_document, records), total)

    async def show(self, request: web.Request) -> web.Response:
        """Return the event with this row id or event id; digits are a row id first.

        If several groups consume the event, return the row of the first. `overtaken` names the events that own the
        fields which this event sets and did not win. Raises `NotFound`, `ValidationFailed`.
        """
        async with self._database.read_connection() as connection:
            rows = await inbox_queries.find_by_event_id(connection, request.match_info["id"])
            if not rows:
                raise NotFound("There is no such event.")
            writers = await inbox_queries.writers_of_overtaken_fields(connection, rows[0])
        return success(event_document(rows[0], writers))

    async def retry(self, request: web.Request) -> web.Response:
        """Redrive one event. Raises `NotFound`, `InvalidStatusTransition`, `ValidationFailed`."""
        group, caller = parse_query(GroupQuery, request).group, caller_of(request)
        rows = await self._redrive.retry(request.match_info["id"], group, caller)
        self._logger.info("Event redriven", actor=caller.name, event_id=rows[0].event_id, request_id=caller.request_id)
        return success([event_document(row) for row in rows], status=202)

    async def close(self, request: web.Request) -> web.Response:
        """Give a dead event up, which nothing will apply any more. Its body is dropped.

        Raises `NotFound`, `InvalidStatusTransition`, `ValidationFailed`.
        """
        group, caller = parse_query(GroupQuery, request).group, caller_of(request)
        body = await parse_body(CloseBody, request)
        rows = await self._redrive.close(request.match_info["id"], group, body.reason, caller)
        self._logger.info("Event closed", actor=caller.name, event_id=rows[0].event_id, request_id=caller.request_id)
        return success([event_document(row) for row in rows])

    async def redrive(self, request: web.Request) -> web.Response:
        """Redrive the events that match, unless it is a dry run. Raises `ValidationFailed`."""
        body, caller = await parse_body(RedriveBody, request), caller_of(request)
        matching = body.redrive_filter()
        if body.dry_run:
            report = await self._redrive.preview(matching, caller)
        else:
            report = await self._redrive.run(matching, caller, body.limit)
        self._logger.info(
            "Events redriven",
            actor=caller.name,
            dry_run=body.dry_run,
            events=report.events,
            redriven=report.redriven,
            request_id=caller.request_id,
        )
        return success(report.document(is_dry=body.dry_run))
