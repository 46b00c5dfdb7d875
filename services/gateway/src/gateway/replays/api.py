"""`POST /api/v1/admin/replays`: a range of a topic, read again."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, BodyTimestamp, parse_body
from gateway.http.caller import caller_of
from safevideo_common.jobs.serializers import job_document
from safevideo_common.jobs.service import JobService
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.replay.request import (
    EVENTS_PER_SECOND,
    MAX_EVENTS_PER_SECOND,
    MAX_PERFORMERS,
    MAX_TYPES,
    ReplayParameters,
    enqueue_replay,
)
from safevideo_common.web.responses import success

_Type = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
_PerformerId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class ReplayBody(Body):
    """What to replay. Without `dryRun: false` nothing is applied; `from` and `to` are about reception, either open."""

    topic: str
    target: str
    from_: BodyTimestamp | None = Field(None, alias="from")
    to: BodyTimestamp | None = None
    types: list[_Type] = Field([], max_length=MAX_TYPES)
    performer_ids: list[_PerformerId] = Field([], max_length=MAX_PERFORMERS)
    dry_run: bool = True
    force: bool = False
    events_per_second: int = Field(EVENTS_PER_SECOND, ge=1, le=MAX_EVENTS_PER_SECOND)

    def asked(self) -> ReplayParameters:
        """As the job wants it."""
        return ReplayParameters(
            self.topic,
            self.target,
            self.from_,
            self.to,
            tuple(self.types),
            tuple(self.performer_ids),
            self.dry_run,
            self.force,
            self.events_per_second,
        )


class ReplaysApi:
    """Where a replay is asked for; it is watched and cancelled as the job that it is."""

    def __init__(self, administration: JobService, log: FilteringBoundLogger) -> None:
        self._administration = administration
        self._log = log.bind(stream="audit")

    async def start(self, request: web.Request) -> web.Response:
        """Queue a replay. Raises `ValidationFailed`."""
        asked, caller = (await parse_body(ReplayBody, request)).asked(), caller_of(request)
        job = await enqueue_replay(self._administration, asked, caller)
        self._log.info(
            "Replay asked for",
            actor=caller.name,
            job_id=job.id,
            topic=asked.topic,
            target=asked.target,
            dry_run=asked.dry_run,
            force=asked.force,
            request_id=caller.request_id,
        )
        return success(job_document(job), status=202)
