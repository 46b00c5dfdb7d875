"""`/api/v1/admin/jobs`: list, show, retry and cancel background jobs."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, READERS, Endpoint, Returns, Shape
from gateway.http.query import KeyedPageQuery, Query, StorableTimestamp, parse_query, row_id_of
from gateway.http.sentence import Sentence
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import PRINCIPAL
from safevideo_common.clock import Clock
from safevideo_common.errors import InvalidStatusTransition, JobNotCancellable, JobNotFound
from safevideo_common.jobs.model import AttemptOutcome, Job, JobStatus, Priority
from safevideo_common.jobs.serializers import JobDetailsDocument, JobDocument, details_document, job_document
from safevideo_common.jobs.service import JobService
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success


class JobQuery(KeyedPageQuery):
    """The filter of the list. `from` and `to` are a range of `createdAt`, without its end."""

    type: str | None = Field(None, pattern=r"^[a-z0-9_]{1,64}$")
    status: JobStatus | None = None
    priority: Priority | None = None
    runner: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    request_id: str | None = Field(None, pattern=r"^[!-~]{1,128}$")
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> JobFilter:
        """Return the filter of the job store."""
        return JobFilter(self.type, self.status, self.priority, self.runner, self.from_, self.to, self.request_id)


class CancelBody(Body):
    """The reason of a cancellation."""

    reason: Sentence


class JobRetryQuery(Query):
    """The place at which a retried job begins."""

    from_start: bool = False


QUEUED_JOB: Final[JobDocument] = {
    "jobId": 41,
    "jobType": "event_replay",
    "status": JobStatus.QUEUED,
    "priority": Priority.NORMAL,
    "parameters": {"topic": "sharegram.performer.v1", "target": "sync-worker", "dryRun": True, "force": False},
    "runner": "sync-worker",
    "error": None,
    "progress": 0,
    "totalItems": None,
    "processedItems": 0,
    "tries": 0,
    "maxTries": 5,
    "freeTries": 0,
    "nextTryAt": None,
    "createdAt": "2026-11-24T20:58:25.123Z",
    "queuedAt": "2026-11-24T20:58:25.123Z",
    "startedAt": None,
    "finishedAt": None,
    "cancelRequestedAt": None,
    "cancelReason": None,
    "createdBy": "operations",
    "requestId": "0f8fad5bd9cb469fa16570867728950e",
}
_CANCELLED_JOB: Final[JobDocument] = {
    **QUEUED_JOB,
    "status": JobStatus.CANCELLED,
    "finishedAt": "2026-11-24T21:00:00.000Z",
    "cancelReason": "the wrong range",
}
_JOB_DETAILS: Final[JobDetailsDocument] = {
    **QUEUED_JOB,
    "worker": "sync-worker-7f9c",
    "heartbeatAt": "2026-11-24T20:59:00.000Z",
    "leaseUntil": "2026-11-24T20:59:30.000Z",
    "estimatedEndAt": None,
    "result": None,
    "history": [
        {
            "number": 1,
            "worker": "sync-worker-7f9c",
            "startedAt": "2026-11-24T20:58:30.000Z",
            "endedAt": "2026-11-24T20:58:40.000Z",
            "outcome": AttemptOutcome.RETRYABLE,
            "error": "SERVICE_UNAVAILABLE: the database does not answer",
        }
    ],
}


class JobsApi:
    """The endpoints of background jobs."""

    def __init__(self, jobs: JobService, clock: Clock, logger: FilteringBoundLogger) -> None:
        self._jobs = jobs
        self._clock = clock
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/jobs"
        page = Returns(JobDocument, QUEUED_JOB, shape=Shape.PAGE)
        one = Returns(JobDetailsDocument, _JOB_DETAILS)
        retried = Returns(JobDocument, QUEUED_JOB, status=202)
        cancelled = Returns(JobDocument, _CANCELLED_JOB, status=202)
        retry_errors, cancel_errors = (JobNotFound, InvalidStatusTransition), (JobNotFound, JobNotCancellable)
        reason = {"reason": "the wrong range"}
        return [
            Endpoint("GET", path, self.list, READERS, page, query=JobQuery),
            Endpoint("GET", f"{path}/{{id}}", self.show, READERS, one, (JobNotFound,)),
            Endpoint("POST", f"{path}/{{id}}/retry", self.retry, ADMINS, retried, retry_errors, query=JobRetryQuery),
            Endpoint(
                "POST",
                f"{path}/{{id}}/cancel",
                self.cancel,
                ADMINS,
                cancelled,
                cancel_errors,
                body=CancelBody,
                body_example=reason,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of jobs, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(JobQuery, request)
        jobs, total = await self._jobs.list(
            query.filter(), page=query.page, limit=query.limit, order=query.order, after=query.after
        )
        return query.response(map(job_document, jobs), total)

    async def show(self, request: web.Request) -> web.Response:
        """Return one job with its attempts and their errors. Only an admin sees its result, which may be personal data.

        Raises `JobNotFound`, `ValidationFailed`.
        """
        document = details_document(await self._jobs.get(row_id_of(request)), self._clock())
        if request[PRINCIPAL].role is not Role.ADMIN:
            document["result"] = None
        return success(document)

    async def retry(self, request: web.Request) -> web.Response:
        """Run a finished job again. Raises `JobNotFound`, `InvalidStatusTransition`, `ValidationFailed`."""
        from_start = parse_query(JobRetryQuery, request).from_start
        job = await self._jobs.retry(row_id_of(request), caller_of(request), from_start=from_start)
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
