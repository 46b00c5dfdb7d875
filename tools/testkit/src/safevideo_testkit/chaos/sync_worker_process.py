"""A worker process with the jobs of performer syncs, to be killed. Its parent has imported all that it needs."""

import asyncio
import multiprocessing
from multiprocessing.context import ForkServerProcess
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.sharegram.client import CallProtections, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_testkit.harness.performer_sync import sync_handlers

LIMITS: Final = WorkerLimits(4, 0.5, 0.05, Backoff(0.05, 0.1))
"""A short lease, since each kill waits for its end."""

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def start_sync_worker(database_url: str, settings: dict[str, object], page_size: int) -> ForkServerProcess:
    """Start a worker. It works until it is killed."""
    process = _CONTEXT.Process(target=_work, args=(database_url, settings, page_size), daemon=True)
    process.start()
    return process


def _work(database_url: str, settings: dict[str, object], page_size: int) -> None:
    asyncio.run(_run(database_url, SharegramSettings.model_validate(settings), page_size))


async def _run(database_url: str, settings: SharegramSettings, page_size: int) -> None:
    logger, registry = build_logger("sync-worker", LogSink(None, stdout=False)), CollectorRegistry()
    async with Database.open(database_url, pool_size=6) as database:
        keys = StoredIdempotencyKeys(database, utc_now)
        async with open_sharegram(settings, CallProtections(), keys, registry, logger, utc_now) as sharegram:
            handlers = sync_handlers(database, sharegram, logger, page_size=page_size)
            await JobWorker("sync-worker", handlers, database, LIMITS, JobMetrics(registry, handlers), logger).run()
