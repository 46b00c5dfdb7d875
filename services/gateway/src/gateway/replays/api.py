"""`POST /api/v1/admin/replays`: apply the events of a range of a topic again."""

from collections.abc import Sequence
from typing import Annotated

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, BodyTimestamp, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, Endpoint, Returns
from gateway.http.idempotency import keep_response
from gateway.jobs.api import QUEUED_JOB
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.serializers import JobDocument, job_document
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
    """The events to replay. Without `dryRun: false` nothing is applied. `from` and `to` are a range of reception."""

    topic: str
    target: str
    from_: BodyTimestamp | None = Field(None, alias="from")
    to: BodyTimestamp | None = None
    types: list[_Type] = Field([], max_length=MAX_TYPES)
    performer_ids: list[_PerformerId] = Field([], max_length=MAX_PERFORMERS)
    dry_run: bool = True
    force: bool = False
    events_per_second: int = Field(EVENTS_PER_SECOND, ge=1, le=MAX_EVENTS_PER_SECOND)

    def parameters(self) -> ReplayParameters:
        """Return the parameters of the replay job."""
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
    """The endpoint that starts a replay. A replay is a job: `/api/v1/admin/jobs` shows and cancels it."""

    def __init__(self, jobs: JobService, logger: FilteringBoundLogger) -> None:
        self._jobs = jobs
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declaration."""
        queued = Returns(JobDocument, QUEUED_JOB, status=202)
        example = {"topic": "sharegram.performer.v1", "target": "sync-worker", "dryRun": True}
        path = f"{ADMIN_PATH}/replays"
        return [
            Endpoint(
                "POST",
                path,
                self.start,
                ADMINS,
                queued,
                takes_idempotency_key=True,
                body=ReplayBody,
                body_example=example,
            )
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Enqueue a replay. Raises `ValidationFailed`."""
        parameters, caller = (await parse_body(ReplayBody, request)).parameters(), caller_of(request)

        async def keep(tx: AsyncConnection, job: Job) -> None:
            await keep_response(request, tx, 202, job_document(job))

        job = await enqueue_replay(self._jobs, parameters, caller, keep)
        self._logger.info(
            "Replay enqueued",
            actor=caller.name,
            job_id=job.id,
            topic=parameters.topic,
            target=parameters.target,
            dry_run=parameters.dry_run,
            force=parameters.force,
            request_id=caller.request_id,
        )
        return success(job_document(job), status=202)
