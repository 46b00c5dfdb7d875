"""`GET /api/v1/admin/events` and `/{id}`. The payload is personal data and is not shown."""

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, BodyTimestamp, parse_body, parse_member
from gateway.http.caller import caller_of
from gateway.http.query import PageQuery, Query, StorableTimestamp, pagination, parse_query
from safevideo_common.audit.store import Caller
from safevideo_common.database.engine import Database
from safevideo_common.database.paging import Order
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import NotFound, ValidationFailed
from safevideo_common.inbox.redrive import MAX_EVENTS, RedriveReport, RedriveService
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store.queries import InboxFilter, InboxRecord, Sort, event_document
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success

# `POST /api/v1/admin/events/{id}/retry` and `/redrive`: taking events up again that died, or that wait.


MAX_RUN: Final = 100_000

_Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class RetryQuery(Query):
    """Of an event that several groups consume: which of its rows."""

    group: _Group | None = None


class FilterBody(Body):
    """All conditions hold at once; `from` and `to` are about `receivedAt`, the end excluded."""

    type: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    performer_id: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    status: Literal["dead", "waiting"] = "dead"
    reason: str | None = Field(None, pattern=r"^[A-Za-z0-9_]{1,64}$")
    group: _Group | None = None
    from_: BodyTimestamp | None = Field(None, alias="from")
    to: BodyTimestamp | None = None

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out but by status."""
        return bool(self.model_fields_set - {"status"})

    def wanted(self) -> RedriveFilter:
        """As the inbox wants it."""
        status: Literal[Status.DEAD, Status.WAITING] = Status.DEAD if self.status == "dead" else Status.WAITING
        return RedriveFilter(status, self.type, self.performer_id, self.reason, self.group, self.from_, self.to)


class RedriveBody(Body):
    """What to take up. Without `dryRun: false` nothing changes; without a filter it must say `all: true`."""

    filter: dict[str, object]
    all: bool = False
    dry_run: bool = True
    limit: int = Field(MAX_EVENTS, ge=1, le=MAX_RUN)

    def wanted(self) -> RedriveFilter:
        """The filter. Raises `ValidationFailed`, also for a filter that holds for every event without saying so."""
        narrowed = parse_member(FilterBody, self.filter, "filter")
        if narrowed.narrows is self.all:
            sentence = "leaves nothing out: say all: true" if not self.all else "says what to leave out, and all: true"
            raise ValidationFailed("Some members of the body are wrong.", details={"filter": sentence})
        return narrowed.wanted()


class RedriveApi:
    """What an operator does to events that died, or that wait."""

    def __init__(self, redriving: RedriveService, log: FilteringBoundLogger) -> None:
        self._redriving = redriving
        self._log = log.bind(stream="audit")

    async def retry(self, request: web.Request) -> web.Response:
        """Take up one event. Raises `NotFound`, `InvalidStatusTransition`, `ValidationFailed`."""
        group, caller = parse_query(RetryQuery, request).group, caller_of(request)
        rows = await self._redriving.retry(request.match_info["id"], group, caller)
        self._log.info(
            "Event taken up again", actor=caller.name, event_id=rows[0].event_id, request_id=caller.request_id
        )
        return success([event_document(row) for row in rows], status=202)

    async def redrive(self, request: web.Request) -> web.Response:
        """Take up what the filter finds, unless it is a dry run. Raises `ValidationFailed`."""
        asked, caller = await parse_body(RedriveBody, request), caller_of(request)
        report = await self._run(asked, caller)
        self._log.info(
            "Events redriven",
            actor=caller.name,
            dry_run=asked.dry_run,
            events=report.events,
            redriven=report.redriven,
            request_id=caller.request_id,
        )
        return success(report.document(is_dry=asked.dry_run))

    async def _run(self, asked: RedriveBody, caller: Caller) -> RedriveReport:
        wanted = asked.wanted()
        if asked.dry_run:
            return await self._redriving.survey(wanted, caller)
        return await self._redriving.run(wanted, caller, asked.limit)


# The event browser: every webhook received and what became of it.


class EventBrowser:
    """Reads the inbox. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: InboxFilter, *, page: int, limit: int, sort: Sort, order: Order
    ) -> tuple[list[InboxRecord], int]:
        """One page, counted from 1, and the number of all that match."""
        async with self._database.reading() as connection:
            return await inbox_queries.find(connection, wanted, page=page, limit=limit, sort=sort, order=order)

    async def one(self, given: str) -> InboxRecord:
        """The event with this row id or event id; digits are a row id first.

        Of an event that several groups consume it is the row of the first. Raises `NotFound`, and `ValidationFailed`
        for what can be neither.
        """
        async with self._database.reading() as connection:
            rows = await inbox_queries.find_by_event_id(connection, given)
        if not rows:
            raise NotFound("There is no such event.")
        return rows[0]


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
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None
    sort: Literal["receivedAt", "occurredAt", "decidedAt"] = "receivedAt"

    def filter(self) -> InboxFilter:
        """As the inbox wants it."""
        return InboxFilter(self.type, self.performer, self.status, self.from_, self.to)


class EventsApi:
    """The event browser."""

    def __init__(self, browse: EventBrowser) -> None:
        self._browse = browse

    async def list(self, request: web.Request) -> web.Response:
        """One page of events, newest first unless asked otherwise. Raises `ValidationFailed`."""
        query = parse_query(EventQuery, request)
        records, total = await self._browse.page(
            query.filter(), page=query.page, limit=query.limit, sort=_SORT[query.sort], order=query.order
        )
        extra = {"pagination": pagination(query.page, query.limit, total)}
        return success([event_document(record) for record in records], extra=extra)

    async def show(self, request: web.Request) -> web.Response:
        """One event, by row id or by event id. Raises `NotFound`, and `ValidationFailed` for what can be neither."""
        return success(event_document(await self._browse.one(request.match_info["id"])))
