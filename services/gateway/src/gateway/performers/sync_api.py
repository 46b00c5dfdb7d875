"""`/api/v1/performers/sync`: start a sync of all performers, follow it, and cancel it."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, BodyTimestamp, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMINS, Endpoint, Returns, Shape
from gateway.http.idempotency import keep_response
from gateway.http.query import Number, PageQuery, Query, parse_query
from gateway.http.rate_limits import RateLimitClass
from gateway.jobs.api import QUEUED_JOB, CancelBody
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import JobNotCancellable, JobNotFound, SyncAlreadyInProgress, SyncJobsNotFound
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.serializers import JobDocument, job_document
from safevideo_common.jobs.service import JobService
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.performer_sync.request import SYNC_JOB, SyncParameters, enqueue_sync
from safevideo_common.web.responses import success

PATH: Final = "/api/v1/performers/sync"
MAX_ID: Final = 10**18 - 1
_OF_SYNCS: Final = JobFilter(job_type=SYNC_JOB)
_SYNC: Final[JobDocument] = {**QUEUED_JOB, "jobType": SYNC_JOB, "parameters": SyncParameters(full_sync=True).document()}


class SyncOptions(Body):
    """Performers that the sync leaves out. Such a sync finds no deletions."""

    include_inactive: bool = True
    update_existing: bool = True


class SyncAllBody(Body):
    """The extent of the sync. Without `fullSync` it reads what has changed since the last one, or since `since`."""

    full_sync: bool = False
    since: BodyTimestamp | None = None
    sync_options: SyncOptions = SyncOptions()
    dry_run: bool = False
    confirm_deletions_of: int | None = Field(None, ge=1, le=MAX_ID)

    def parameters(self) -> SyncParameters:
        """Return the parameters of the job."""
        return SyncParameters(
            self.full_sync,
            self.since,
            self.sync_options.include_inactive,
            self.sync_options.update_existing,
            self.dry_run,
            self.confirm_deletions_of,
        )


class SyncCancelBody(CancelBody):
    """The sync to cancel, and the reason."""

    job_id: int = Field(ge=1, le=MAX_ID)


class SyncStatusQuery(Query):
    """The sync to show; the newest by default."""

    job_id: Number | None = None


class PerformerSyncsApi:
    """The endpoints of syncs. A sync is a job: `/api/v1/admin/jobs` shows its result."""

    def __init__(self, database: Database, jobs: JobService, clock: Clock) -> None:
        self._database = database
        self._jobs = jobs
        self._clock = clock

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        queued, one = Returns(JobDocument, _SYNC, status=202), Returns(JobDocument, _SYNC)
        page = Returns(JobDocument, _SYNC, shape=Shape.PAGE)
        cancel_errors = (JobNotFound, JobNotCancellable)
        cancelled = {"jobId": 41, "reason": "the wrong time"}
        return [
            Endpoint(
                *("POST", PATH, self.start, ADMINS, queued, (SyncAlreadyInProgress,)),
                rate_limit=RateLimitClass.SYNC_START, takes_idempotency_key=True, body=SyncAllBody,
                body_example={"fullSync": True},
            ),
            Endpoint("GET", f"{PATH}/status", self.status, ADMINS, one, (SyncJobsNotFound,), query=SyncStatusQuery),
            Endpoint("GET", f"{PATH}/history", self.history, ADMINS, page, query=PageQuery),
            Endpoint(
                *("POST", f"{PATH}/cancel", self.cancel, ADMINS, queued, cancel_errors),
                body=SyncCancelBody, body_example=cancelled,
            ),
        ]  # fmt: skip

    async def start(self, request: web.Request) -> web.Response:
        """Queue a sync of all performers. Raises `SyncAlreadyInProgress`, `ValidationFailed`."""
        body = await parse_body(SyncAllBody, request)

        async def keep(tx: AsyncConnection, job: Job) -> None:
            await keep_response(request, tx, 202, job_document(job))

        job = await enqueue_sync(self._database, body.parameters(), caller_of(request), self._clock, keep)
        return success(job_document(job), status=202)

    async def status(self, request: web.Request) -> web.Response:
        """Return one sync, or the newest. Raises `SyncJobsNotFound`."""
        query = parse_query(SyncStatusQuery, request)
        if query.job_id is None:
            jobs, _ = await self._jobs.list(_OF_SYNCS, page=1, limit=1, order="desc")
            job = jobs[0] if jobs else None
        else:
            job = await self._sync(query.job_id)
        if job is None:
            raise SyncJobsNotFound("There is no such sync.")
        return success(job_document(job))

    async def history(self, request: web.Request) -> web.Response:
        """Return one page of syncs, by default the newest first."""
        query = parse_query(PageQuery, request)
        jobs, total = await self._jobs.list(_OF_SYNCS, page=query.page, limit=query.limit, order=query.order)
        return query.response(map(job_document, jobs), total)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a sync: at once while it is queued, after its page while it runs. Raises `JobNotCancellable`."""
        body = await parse_body(SyncCancelBody, request)
        if await self._sync(body.job_id) is None:
            raise JobNotFound("No sync has this id.")
        job = await self._jobs.cancel(body.job_id, body.reason, caller_of(request))
        return success(job_document(job), status=202)

    async def _sync(self, job_id: int) -> Job | None:
        try:
            job = (await self._jobs.get(job_id)).job
        except JobNotFound:
            return None
        return job if job.job_type == SYNC_JOB else None
