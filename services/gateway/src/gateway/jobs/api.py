"""`/api/v1/admin/jobs`: list, show, run again, cancel."""

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.query import PageQuery, StorableTimestamp, pagination, parse_query, row_id_of
from safevideo_common.clock import Clock
from safevideo_common.jobs.model import REASON_LENGTH, Job, JobStatus, Priority
from safevideo_common.jobs.serializers import details_document, job_document
from safevideo_common.jobs.service import JobService
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success


class JobQuery(PageQuery):
    """Filters of the list; `from` and `to` are about `createdAt`, the end excluded."""

    type: str | None = Field(None, pattern=r"^[a-z0-9_]{1,64}$")
    status: JobStatus | None = None
    priority: Priority | None = None
    runner: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> JobFilter:
        """As the table wants it."""
        return JobFilter(self.type, self.status, self.priority, self.runner, self.from_, self.to)


class CancelBody(Body):
    """Why."""

    reason: str = Field(min_length=1, max_length=REASON_LENGTH, pattern=r"^[^\x00-\x1f]+$")


class JobsApi:
    """What an operator sees of jobs and does to them."""

    def __init__(self, administration: JobService, clock: Clock, log: FilteringBoundLogger) -> None:
        self._administration = administration
        self._clock = clock
        self._log = log.bind(stream="audit")

    async def list(self, request: web.Request) -> web.Response:
        """One page, the newest first unless asked otherwise. Raises `ValidationFailed`."""
        query = parse_query(JobQuery, request)
        found, total = await self._administration.list(
            query.filter(), page=query.page, limit=query.limit, order=query.order
        )
        extra = {"pagination": pagination(query.page, query.limit, total)}
        return success([job_document(job) for job in found], extra=extra)

    async def show(self, request: web.Request) -> web.Response:
        """One job, its tries and their errors. Raises `JobNotFound`, `ValidationFailed` for what can be no id."""
        details = await self._administration.get(row_id_of(request))
        return success(details_document(details, self._clock()))

    async def retry(self, request: web.Request) -> web.Response:
        """Run a finished job again. Raises `JobNotFound`, `InvalidStatusTransition`."""
        job = await self._administration.retry(row_id_of(request), caller_of(request))
        return self._accepted("Job is run again", job, request)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job. Raises `JobNotFound`, `JobNotCancellable`, `ValidationFailed`."""
        reason = (await parse_body(CancelBody, request)).reason
        job = await self._administration.cancel(row_id_of(request), reason, caller_of(request))
        return self._accepted("Job is cancelled", job, request)

    def _accepted(self, sentence: str, job: Job, request: web.Request) -> web.Response:
        caller = caller_of(request)
        self._log.info(sentence, actor=caller.name, job_id=job.id, job_type=job.job_type, request_id=caller.request_id)
        return success(job_document(job), status=202)
