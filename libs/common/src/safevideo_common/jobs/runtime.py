"""The job engine as part of a worker's app."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING, JobCleaner, QueueMonitor
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.notifications import JobListener
from safevideo_common.jobs.scheduler import PERIODIC_JOBS, PeriodicJob, PeriodicJobEnqueuer
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.jobs.store.queue import NO_LIMITS
from safevideo_common.jobs.worker import POOL_SIZE, JobWorker, WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import background_task

GRACE_SHARE: Final = 0.5
"""Of the seconds of a shutdown: the consuming that ends after the jobs needs its own."""


@asynccontextmanager
async def run_job_worker(
    app: web.Application, service: str, handlers: Mapping[str, JobHandler], broker: Broker,
    settings: JobSettings, registry: CollectorRegistry, log: FilteringBoundLogger, *,
    stirred: asyncio.Event | None = None, schedule: Sequence[PeriodicJob] = PERIODIC_JOBS,
    at_once: Mapping[str, int] = NO_LIMITS,
) -> AsyncIterator[JobWorker]:  # fmt: skip
    """Run jobs of these types beside `app`, and what every worker can do; drain at the end.

    `stirred` is that of the process's outbox relay. Of the types in `at_once` this process has no more than so many in
    hand; the others share the slots. The death of one of the tasks fails the app.
    """
    handlers = {JOB_HOUSEKEEPING: JobCleaner(settings.job_retention_days), **handlers}
    metrics = JobMetrics(registry, handlers)
    async with Database.open(settings.database_url.get_secret_value(), pool_size=POOL_SIZE) as database:
        bounds = replace(limits_of(settings), at_once=at_once)
        engine = JobWorker(service, handlers, database, bounds, metrics, log)

        def queued() -> None:
            engine.wake.set()
            if stirred is not None:
                stirred.set()

        wake_up = JobListener(broker, service, frozenset(handlers), engine.wake, log)
        tasks = {
            "job-endings": engine.endings.run(),
            "job-heartbeat": engine.heartbeat.run(),
            "job-rescue": engine.rescue.run(),
            "job-wake-up": wake_up.run(),
            "job-schedule": PeriodicJobEnqueuer(database, schedule, queued, metrics, log).run(),
            "job-queue-watch": QueueMonitor(database, metrics, log).run(),
        }
        async with AsyncExitStack() as stack:
            for name, work in tasks.items():
                await stack.enter_async_context(background_task(app, name, work))
            # Drained before the tasks above end: leases are kept, and endings written, to the last.
            await stack.enter_async_context(_drain_on_exit(app, engine, settings.shutdown_seconds * GRACE_SHARE))
            yield engine


@asynccontextmanager
async def _drain_on_exit(app: web.Application, engine: JobWorker, grace_seconds: float) -> AsyncIterator[None]:
    async with background_task(app, "job-engine", engine.run()):
        try:
            yield
        finally:
            await engine.drain(grace_seconds)


def limits_of(settings: JobSettings) -> WorkerLimits:
    """What the settings ask for."""
    retry = Backoff(settings.job_retry_initial_seconds, settings.job_retry_max_seconds)
    return WorkerLimits(settings.job_slots, settings.job_lease_seconds, settings.job_poll_seconds, retry)
