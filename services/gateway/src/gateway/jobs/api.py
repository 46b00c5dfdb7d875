"""`/api/v1/admin/jobs`: list, show, retry and cancel background jobs."""

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.query import PageQuery, StorableTimestamp, parse_query, row_id_of
from safevideo_common.clock import Clock
from safevideo_common.jobs.model import REASON_LENGTH, Job, JobStatus, Priority
from safevideo_common.jobs.serializers import details_document, job_document
from safevideo_common.jobs.service import JobService
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success


class JobQuery(PageQuery):
    """The filter of the list. `from` and `to` are a range of `createdAt`, without its end."""

    type: str | None = Field(None, pattern=r"^[a-z0-9_]{1,64}$")
    status: JobStatus | None = None
    priority: Priority | None = None
    runner: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> JobFilter:
        """Return the filter of the job store."""
        return JobFilter(self.type, self.status, self.priority, self.runner, self.from_, self.to)


class CancelBody(Body):
    """The reason of a cancellation."""

    reason: str = Field(min_length=1, max_length=REASON_LENGTH, pattern=r"^[^\x00-\x1f]+$")


class JobsApi:
    """The endpoints of background jobs."""

    def __init__(self, jobs: JobService, clock: Clock, logger: FilteringBoundLogger) -> None:
        self._jobs = jobs
        self._clock = clock
        self._logger = logger.bind(stream="audit")

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of jobs, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(JobQuery, request)
        jobs, total = await self._jobs.list(query.filter(), page=query.page, limit=query.limit, order=query.order)
        return query.response(map(job_document, jobs), total)

    async def show(self, request: web.Request) -> web.Response:
        """Return one job with its attempts and their errors. Raises `JobNotFound`, `ValidationFailed`."""
        details = await self._jobs.get(row_id_of(request))
        return success(details_document(details, self._clock()))

    async def retry(self, request: web.Request) -> web.Response:
        """Run a finished job again. Raises `JobNotFound`, `InvalidStatusTransition`."""
        job = await self._jobs.retry(row_id_of(request), caller_of(request))
        return self._accepted("Job retried", job, request)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job. Raises `JobNotFound`, `JobNotCancellable`, `ValidationFailed`."""
        reason = (await parse_body(CancelBody, request)).reason
        job = await self._jobs.cancel(row_id_of(request), reason, caller_of(request))
        return self._accepted("Job cancelled", job, request)

    def _accepted(self, message: str, job: Job, request: web.Request) -> web.Response:
        caller = caller_of(request)
        self._logger.info(
            message, actor=caller.name, job_id=job.id, job_type=job.job_type, request_id=caller.request_id
        )
        return success(job_document(job), status=202)
