"""The job worker as a part of a service's app."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.jobs.handler import JobGate, JobHandler
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING, JobCleaner, QueueMonitor
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.notifications import JobListener
from safevideo_common.jobs.running_jobs import POOL_SIZE
from safevideo_common.jobs.scheduler import PERIODIC_JOBS, PeriodicJob, PeriodicJobEnqueuer
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.jobs.store.queue import NO_LIMITS
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import Tracer
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import background_task

NO_GATES: Final[Mapping[str, JobGate]] = MappingProxyType({})
GRACE_SHARE: Final = 0.5
"""Share of the shutdown time for draining jobs. The consumer, which ends after them, needs the rest."""


@asynccontextmanager
async def run_job_worker(
    app: web.Application, service: str, handlers: Mapping[str, JobHandler], broker: Broker,
    settings: JobSettings, registry: CollectorRegistry, logger: FilteringBoundLogger, *,
    outbox_wakeup: asyncio.Event | None = None, periodic_jobs: Sequence[PeriodicJob] = PERIODIC_JOBS,
    concurrency_by_type: Mapping[str, int] = NO_LIMITS, gates: Mapping[str, JobGate] = NO_GATES,
    tracer: Tracer | None = None,
) -> AsyncIterator[JobWorker]:  # fmt: skip
    """Run jobs of these types, and the housekeeping, beside `app`; drain at the end.

    `outbox_wakeup` is the event of the process's outbox relay. `concurrency_by_type` limits types of jobs that would
    weigh on the process; the other types share the slots. A type in `gates` is claimed only while its dependency is
    available. The supervisor of `app` has the tasks.
    """
    handlers = {JOB_HOUSEKEEPING: JobCleaner(settings.job_retention_days), **handlers}
    metrics = JobMetrics(registry, handlers)
    async with Database.open(settings.database_url.get_secret_value(), pool_size=POOL_SIZE) as database:
        limits = replace(limits_of(settings), concurrency_by_type=concurrency_by_type, gates=gates, tracer=tracer)
        worker = JobWorker(service, handlers, database, limits, metrics, logger)

        def wake() -> None:
            worker.wakeup.set()
            if outbox_wakeup is not None:
                outbox_wakeup.set()

        listener = JobListener(broker, service, frozenset(handlers), worker.wakeup, logger)
        async with AsyncExitStack() as stack:
            for name, work in {
                "job-listener": listener.listen,
                "periodic-jobs": PeriodicJobEnqueuer(database, periodic_jobs, wake, metrics, logger).run,
                "job-queue-monitor": QueueMonitor(database, metrics, logger).run,
                "job-worker": worker.run,
            }.items():
                await stack.enter_async_context(background_task(app, name, work))
            try:
                yield worker
            finally:
                await worker.drain(settings.shutdown_seconds * GRACE_SHARE)


def limits_of(settings: JobSettings) -> WorkerLimits:
    """Return the limits that the settings contain."""
    retry = Backoff(settings.job_retry_initial_seconds, settings.job_retry_max_seconds)
    return WorkerLimits(settings.job_concurrency, settings.job_lease_seconds, settings.job_poll_seconds, retry)
