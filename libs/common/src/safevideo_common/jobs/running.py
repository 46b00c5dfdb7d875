"""The job engine as part of a worker's app."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.database.engine import Database
from safevideo_common.database.job_due import NO_BOUNDS
from safevideo_common.domain.schedules import Every
from safevideo_common.jobs.bounds import POOL_SIZE, EngineBounds
from safevideo_common.jobs.engine import JobEngine
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.housekeeping import JOB_HOUSEKEEPING, JobHousekeeping, QueueWatch
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.schedule import SCHEDULE, Scheduler
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.jobs.waking import WakeUp
from safevideo_common.lifecycle import background
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

GRACE_SHARE: Final = 0.5
"""Of the seconds of a shutdown: the consuming that ends after the jobs needs its own."""


@asynccontextmanager
async def running_jobs(
    app: web.Application, service: str, handlers: Mapping[str, JobHandler], event_log: EventLog,
    settings: JobSettings, registry: CollectorRegistry, log: FilteringBoundLogger, *,
    stirred: asyncio.Event | None = None, schedule: Sequence[Every] = SCHEDULE,
    at_once: Mapping[str, int] = NO_BOUNDS,
) -> AsyncIterator[JobEngine]:  # fmt: skip
    """Run jobs of these types beside `app`, and what every worker can do; drain at the end.

    `stirred` is that of the process's outbox relay. Of the types in `at_once` this process has no more than so many in
    hand; the others share the slots. The death of one of the tasks fails the app.
    """
    handlers = {JOB_HOUSEKEEPING: JobHousekeeping(settings.job_retention_days), **handlers}
    metrics = JobMetrics(registry, handlers)
    async with Database.open(settings.database_url.get_secret_value(), pool_size=POOL_SIZE) as database:
        bounds = replace(bounds_of(settings), at_once=at_once)
        engine = JobEngine(service, handlers, database, bounds, metrics, log)

        def queued() -> None:
            engine.wake.set()
            if stirred is not None:
                stirred.set()

        wake_up = WakeUp(event_log, service, frozenset(handlers), engine.wake, log)
        tasks = {
            "job-endings": engine.endings.run(),
            "job-heartbeat": engine.heartbeat.run(),
            "job-rescue": engine.rescue.run(),
            "job-wake-up": wake_up.run(),
            "job-schedule": Scheduler(database, schedule, queued, metrics, log).run(),
            "job-queue-watch": QueueWatch(database, metrics, log).run(),
        }
        async with AsyncExitStack() as stack:
            for name, work in tasks.items():
                await stack.enter_async_context(background(app, name, work))
            # Drained before the tasks above end: leases are kept, and endings written, to the last.
            await stack.enter_async_context(_draining(app, engine, settings.shutdown_seconds * GRACE_SHARE))
            yield engine


@asynccontextmanager
async def _draining(app: web.Application, engine: JobEngine, grace_seconds: float) -> AsyncIterator[None]:
    async with background(app, "job-engine", engine.run()):
        try:
            yield
        finally:
            await engine.drain(grace_seconds)


def bounds_of(settings: JobSettings) -> EngineBounds:
    """What the settings ask for."""
    retry = Backoff(settings.job_retry_initial_seconds, settings.job_retry_max_seconds)
    return EngineBounds(settings.job_slots, settings.job_lease_seconds, settings.job_poll_seconds, retry)
