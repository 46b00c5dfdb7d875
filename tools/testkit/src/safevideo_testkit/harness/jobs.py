"""Job workers in a test, with short times, and what a test needs to know about their jobs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from sqlalchemy import text, update

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.handler import JobContext, JobHandler
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import Job, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import wait_event
from safevideo_testkit.eventually import eventually, running_task

SERVICE: Final = "test-worker"
QUICK: Final = WorkerLimits(slots=10, lease_seconds=30.0, poll_seconds=0.05, retry=Backoff(0.05, 0.1))
RESET: Final = "UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = :id"
"""The statement of an operator, word for word as docs/contract.md has it in section 9."""


@dataclass(frozen=True, slots=True)
class FunctionHandler:
    """A handler that is one function."""

    work: Callable[[JobContext], Awaitable[Mapping[str, object] | None]]

    async def run(self, job: JobContext) -> Mapping[str, object] | None:
        """See `JobHandler`."""
        return await self.work(job)


class BlockingHandler:
    """A handler whose jobs wait until the test releases them."""

    def __init__(self) -> None:
        """`started` has the ids of the jobs that have started, in order."""
        self.started: list[int] = []
        self.release = asyncio.Event()

    async def run(self, job: JobContext) -> None:
        """Wait for the release, and check often whether the job must stop."""
        self.started.append(job.job_id)
        while not self.release.is_set():
            await job.raise_if_stopped()
            await wait_event(self.release, 0.05)

    async def wait_until_started(self, jobs: int = 1) -> None:
        """Wait until this number of jobs has started."""

        async def is_so() -> bool:
            return len(self.started) >= jobs

        await eventually(is_so)


@dataclass(frozen=True, slots=True)
class JobHarness:
    """Jobs in a database, and workers that run them."""

    database: Database
    logger: FilteringBoundLogger

    @asynccontextmanager
    async def running(
        self, handlers: Mapping[str, JobHandler], limits: WorkerLimits = QUICK, *,
        database: Database | None = None, service: str = SERVICE,
    ) -> AsyncIterator[JobWorker]:  # fmt: skip
        """Run a worker, and drain it at the end."""
        metrics = JobMetrics(CollectorRegistry(), handlers)
        worker = JobWorker(service, handlers, database or self.database, limits, metrics, self.logger)
        async with running_task(worker.run()):
            try:
                yield worker
            finally:
                await worker.drain(1.0)

    async def enqueue(self, job: NewJob) -> int:
        """Enqueue a job and return its id."""
        async with self.database.transaction() as tx:
            return (await job_admin.enqueue(tx, job)).job_id

    async def cancel(self, job_id: int, reason: str) -> None:
        """Cancel a job."""
        async with self.database.transaction() as tx:
            await job_admin.cancel(tx, job_id, reason)

    async def job(self, job_id: int) -> Job:
        """Return the job as it is now."""
        async with self.database.read_connection() as connection:
            return await job_admin.get(connection, job_id)

    async def attempts(self, job_id: int) -> list[tuple[int, str]]:
        """Return number and outcome of each attempt that ended."""
        async with self.database.read_connection() as connection:
            return [(each.number, each.outcome.value) for each in await job_attempts.attempts_of(connection, job_id)]

    async def update_row(self, job_id: int, **values: object) -> None:
        """Change columns as an operator does with SQL."""
        async with self.database.transaction() as tx:
            await tx.execute(update(batch_jobs).where(batch_jobs.c.id == job_id).values(**values))

    async def reset_by_hand(self, job_id: int) -> None:
        """Reset the job as an operator does."""
        async with self.database.transaction() as tx:
            await tx.execute(text(RESET), {"id": job_id})

    async def wait_for_status(self, job_id: int, status: JobStatus) -> Job:
        """Wait until the job has the status, and return it."""

        async def is_so() -> bool:
            with suppress(ServiceUnavailable):
                return (await self.job(job_id)).status is status
            return False

        await eventually(is_so)
        return await self.job(job_id)
