"""Job engines beside a test, with short times, and what a test asks about their jobs."""

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
from safevideo_common.jobs.model import JobStatus
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import Job, NewJob
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually, running_task

SERVICE: Final = "test-worker"
QUICK: Final = WorkerLimits(slots=10, lease_seconds=30.0, poll_seconds=0.05, retry=Backoff(0.05, 0.1))

Work = Callable[[JobContext], Awaitable[Mapping[str, object] | None]]


@dataclass(frozen=True, slots=True)
class FunctionHandler:
    """A handler that is one function."""

    work: Work

    async def run(self, job: JobContext) -> Mapping[str, object] | None:
        """See `JobHandler`."""
        return await self.work(job)


class BlockingHandler:
    """A handler whose jobs wait until they are let go."""

    def __init__(self) -> None:
        """`begun` has the number of each job that has begun, in order."""
        self.begun: list[int] = []
        self.go = asyncio.Event()

    async def run(self, job: JobContext) -> None:
        """Says that it runs, and looks at its checkpoint again and again until it may end."""
        self.begun.append(job.job_id)
        while not self.go.is_set():
            await job.check()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self.go.wait()

    async def has_begun(self, jobs_begun: int = 1) -> None:
        """Wait for so many."""

        async def is_so() -> bool:
            return len(self.begun) >= jobs_begun

        await eventually(is_so)


@dataclass(frozen=True, slots=True)
class JobHarness:
    """Jobs in a database, and engines that run them."""

    database: Database
    log: FilteringBoundLogger

    def engine(
        self, handlers: Mapping[str, JobHandler], bounds: WorkerLimits = QUICK, *,
        database: Database | None = None, service: str = SERVICE,
    ) -> JobWorker:  # fmt: skip
        """One that does not run yet."""
        metrics = JobMetrics(CollectorRegistry(), handlers)
        return JobWorker(service, handlers, database or self.database, bounds, metrics, self.log)

    @asynccontextmanager
    async def running(
        self, handlers: Mapping[str, JobHandler], bounds: WorkerLimits = QUICK, *,
        database: Database | None = None, service: str = SERVICE,
    ) -> AsyncIterator[JobWorker]:  # fmt: skip
        """One that claims, ends, beats and rescues as in a worker; drained at the end."""
        engine = self.engine(handlers, bounds, database=database, service=service)
        async with (
            running_task(engine.endings.run()),
            running_task(engine.heartbeat.run()),
            running_task(engine.rescue.run()),
            running_task(engine.run()),
        ):
            try:
                yield engine
            finally:
                await engine.drain(1.0)

    async def enqueue(self, job: NewJob) -> int:
        """Queue a job; its id."""
        async with self.database.transaction() as tx:
            return (await job_admin.enqueue(tx, job)).job_id

    async def job(self, job_id: int) -> Job:
        """As it is now."""
        async with self.database.reading() as reading:
            return await job_admin.get(reading, job_id)

    async def tries(self, job_id: int) -> list[tuple[int, str]]:
        """Number and outcome of each try."""
        async with self.database.reading() as reading:
            return [(each.number, each.outcome.value) for each in await job_admin.attempts_of(reading, job_id)]

    async def by_hand(self, job_id: int, **values: object) -> None:
        """What an operator does with SQL."""
        async with self.database.transaction() as tx:
            await tx.execute(update(batch_jobs).where(batch_jobs.c.id == job_id).values(**values))

    async def reset_by_hand(self, job_id: int) -> None:
        """The very words of the contract, §9."""
        async with self.database.transaction() as tx:
            words = "UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = :id"
            await tx.execute(text(words), {"id": job_id})

    async def becomes(self, job_id: int, status: JobStatus) -> Job:
        """Wait until it is so."""

        async def is_so() -> bool:
            with suppress(ServiceUnavailable):
                return (await self.job(job_id)).status is status
            return False

        await eventually(is_so)
        return await self.job(job_id)
