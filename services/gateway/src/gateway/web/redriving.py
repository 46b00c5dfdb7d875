"""`POST /api/v1/admin/events/{id}/retry` and `/redrive`: taking events up again that died, or that wait."""

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from gateway.web.body import Body, BodyMoment, parse_body, parse_member
from gateway.web.caller import caller_of
from gateway.web.events import event_json
from gateway.web.query import Query, parse_query
from safevideo_common.database.audit_log import Caller
from safevideo_common.database.inbox_redriving import RedriveFilter
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import ValidationFailed
from safevideo_common.messaging.consuming.redrive_report import Report
from safevideo_common.messaging.consuming.redriving import MOST_EVENTS, Redriving
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.envelope import success

LARGEST_RUN: Final = 100_000

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
    from_: BodyMoment | None = Field(None, alias="from")
    to: BodyMoment | None = None

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
    limit: int = Field(MOST_EVENTS, ge=1, le=LARGEST_RUN)

    def wanted(self) -> RedriveFilter:
        """The filter. Raises `ValidationFailed`, also for a filter that holds for every event without saying so."""
        narrowed = parse_member(FilterBody, self.filter, "filter")
        if narrowed.narrows is self.all:
            sentence = "leaves nothing out: say all: true" if not self.all else "says what to leave out, and all: true"
            raise ValidationFailed("Some members of the body are wrong.", details={"filter": sentence})
        return narrowed.wanted()


class RedrivePages:
    """What an operator does to events that died, or that wait."""

    def __init__(self, redriving: Redriving, log: FilteringBoundLogger) -> None:
        self._redriving = redriving
        self._log = log.bind(stream="audit")

    async def retry(self, request: web.Request) -> web.Response:
        """Take up one event. Raises `NotFound`, `InvalidStatusTransition`, `ValidationFailed`."""
        group, caller = parse_query(RetryQuery, request).group, caller_of(request)
        rows = await self._redriving.retry(request.match_info["id"], group, caller)
        self._log.info(
            "Event taken up again", actor=caller.name, event_id=rows[0].event_id, request_id=caller.request_id
        )
        return success([event_json(row) for row in rows], status=202)

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

    async def _run(self, asked: RedriveBody, caller: Caller) -> Report:
        wanted = asked.wanted()
        if asked.dry_run:
            return await self._redriving.survey(wanted, caller)
        return await self._redriving.run(wanted, caller, asked.limit)
