"""What operators do with jobs, by API and by command: look, run again, cancel. What changes something is audited."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.paging import Order
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import Job, JobFilter, NewJob
from safevideo_common.jobs.store.attempts import JobAttempt, attempts_of

RETRIED: Final = "jobs.retried"
CANCELLED: Final = "jobs.cancelled"


class JobDetails(NamedTuple):
    """A job and how its tries ended, the oldest first."""

    job: Job
    tries: Sequence[JobAttempt]


class JobService:
    """Everything raises the errors of `database/faults.py`."""

    def __init__(self, database: Database, clock: Clock, tell: Callable[[Job], None] | None = None) -> None:
        """`tell` is called after the commit of each job that is queued; without it workers hear by the outbox alone."""
        self._database = database
        self._clock = clock
        self._tell = tell

    async def page(self, wanted: JobFilter, *, page: int, limit: int, order: Order) -> tuple[list[Job], int]:
        """One page, counted from 1, and the number of all that match."""
        async with self._database.reading() as reading:
            return await job_admin.find(reading, wanted, page=page, limit=limit, order=order)

    async def one(self, job_id: int) -> JobDetails:
        """Raises `JobNotFound`."""
        async with self._database.reading() as reading:
            return JobDetails(await job_admin.get(reading, job_id), await attempts_of(reading, job_id))

    async def ask(self, job: NewJob, action: str, caller: Caller) -> Job:
        """Queue a job in the caller's name. `action` is what the audit log calls it."""
        return self._told(await retry_on_conflict(partial(self._ask, job, action, caller)))

    async def retry(self, job_id: int, caller: Caller) -> Job:
        """Queue a finished job again, as a fresh run. Raises `JobNotFound`, `InvalidStatusTransition`."""
        return self._told(await retry_on_conflict(partial(self._retry, job_id, caller)))

    async def cancel(self, job_id: int, reason: str, caller: Caller) -> Job:
        """Cancel a queued job at once, a running one at its next checkpoint.

        Raises `JobNotFound`, `JobNotCancellable`.
        """
        return await retry_on_conflict(partial(self._cancel, job_id, reason, caller))

    def _told(self, job: Job) -> Job:
        if self._tell is not None:
            self._tell(job)
        return job

    async def _ask(self, job: NewJob, action: str, caller: Caller) -> Job:
        async with self._database.transaction() as tx:
            queued = await job_admin.enqueue(tx, job)
            details = {"jobId": queued.job_id, "parameters": job.parameters}
            await audit_store.record(tx, caller.did(action, self._clock, details))
            return await job_admin.get(tx, queued.job_id)

    async def _retry(self, job_id: int, caller: Caller) -> Job:
        async with self._database.transaction() as tx:
            was = await job_admin.get(tx, job_id)
            job = await job_admin.retry(tx, job_id)
            details = {"jobId": job_id, "jobType": job.job_type, "was": was.status}
            await audit_store.record(tx, caller.did(RETRIED, self._clock, details))
        return job

    async def _cancel(self, job_id: int, reason: str, caller: Caller) -> Job:
        async with self._database.transaction() as tx:
            job = await job_admin.cancel(tx, job_id, reason)
            details = {"jobId": job_id, "jobType": job.job_type, "reason": reason}
            await audit_store.record(tx, caller.did(CANCELLED, self._clock, details))
        return job
