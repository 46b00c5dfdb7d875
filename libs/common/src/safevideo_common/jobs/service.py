"""The jobs as operators control them, by API and by command. Each change is written to the audit log."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.paging import Order
from safevideo_common.jobs.model import Job, JobAttempt, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_common.jobs.store.attempts import attempts_of

RETRIED: Final = "jobs.retried"
CANCELLED: Final = "jobs.cancelled"


AlsoInTransaction = Callable[[AsyncConnection, Job], Awaitable[None]]
"""A further effect in the transaction that enqueues a job. It is repeated if the transaction is."""


class JobDetails(NamedTuple):
    """A job and its attempts that ended, the oldest first."""

    job: Job
    attempts: Sequence[JobAttempt]


class JobService:
    """Shows, enqueues, retries and cancels jobs. All methods raise the errors of the database."""

    def __init__(self, database: Database, clock: Clock, notify: Callable[[Job], None] = lambda _job: None) -> None:
        """`notify` gets each enqueued job after the commit; without it, only the outbox relay wakes the workers."""
        self._database = database
        self._clock = clock
        self._notify = notify

    async def list(
        self, matching: JobFilter, *, page: int, limit: int, order: Order, after: int | None = None
    ) -> tuple[Sequence[Job], int]:
        """Return one page, counted from 1 or behind the job `after`, and the number of all matching jobs."""
        async with self._database.read_connection() as connection:
            return await job_admin.find(connection, matching, page=page, limit=limit, order=order, after=after)

    async def get(self, job_id: int) -> JobDetails:
        """Return a job with its attempts. Raises `JobNotFound`."""
        async with self._database.read_connection() as connection:
            return JobDetails(await job_admin.get(connection, job_id), await attempts_of(connection, job_id))

    async def enqueue(self, job: NewJob, action: str, caller: Caller, also: AlsoInTransaction | None = None) -> Job:
        """Enqueue a job for the caller, and record it in the audit log as `action`."""

        async def change(tx: AsyncConnection) -> Job:
            job_id, _ = await job_admin.enqueue(tx, job)
            await self._audit(tx, caller, action, job_id, {"jobId": job_id, "parameters": job.parameters})
            queued = await job_admin.get(tx, job_id)
            if also is not None:
                await also(tx, queued)
            return queued

        enqueued = await self._commit(change)
        self._notify(enqueued)
        return enqueued

    async def retry(self, job_id: int, caller: Caller, *, from_start: bool = False) -> Job:
        """Enqueue a finished job; a failed or cancelled one goes on at its cursor unless `from_start`.

        Raises `JobNotFound`, `InvalidStatusTransition`.
        """

        async def change(tx: AsyncConnection) -> Job:
            before = await job_admin.get(tx, job_id)
            job = await job_admin.retry(tx, job_id, from_start=from_start)
            details = {"jobId": job_id, "jobType": job.job_type, "fromStart": from_start}
            details |= {"was": before.status, "now": job.status}
            await self._audit(tx, caller, RETRIED, job_id, details)
            return job

        job = await self._commit(change)
        self._notify(job)
        return job

    async def cancel(self, job_id: int, reason: str, caller: Caller) -> Job:
        """Cancel a queued job at once, a running one at its next checkpoint.

        Raises `JobNotFound`, `JobNotCancellable`.
        """

        async def change(tx: AsyncConnection) -> Job:
            before = await job_admin.get(tx, job_id)
            job = await job_admin.cancel(tx, job_id, reason)
            details: dict[str, object] = {"jobId": job_id, "jobType": job.job_type, "reason": reason}
            details |= {"was": before.status, "now": job.status}
            await self._audit(tx, caller, CANCELLED, job_id, details)
            return job

        return await self._commit(change)

    async def _commit(self, change: Callable[[AsyncConnection], Awaitable[Job]]) -> Job:
        async def attempt() -> Job:
            async with self._database.transaction() as tx:
                return await change(tx)

        return await retry_on_conflict(attempt)

    async def _audit(
        self, tx: AsyncConnection, caller: Caller, action: str, job_id: int, details: dict[str, object]
    ) -> None:
        await audit_store.record(tx, caller.entry(action, self._clock, details, f"job:{job_id}"))
