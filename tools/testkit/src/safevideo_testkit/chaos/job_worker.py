"""A worker process with the jobs of `test_jobs_ledger.py`. SIGTERM drains it."""

import asyncio
import os
import signal
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

from prometheus_client import CollectorRegistry
from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from safevideo_common.database.engine import Database
from safevideo_common.jobs.handler import JobContext, JobHandler, PermanentJobError, RetryableJobError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import cancel_and_wait
from safevideo_testkit.harness.jobs import FunctionHandler

LEASE_SECONDS: Final = 3.0
SLOTS: Final = 6
PAUSE_SECONDS: Final = 0.08
DRAIN_SECONDS: Final = 2.0

steps = Table(
    "chaos_steps",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("run", String(16), nullable=False),
    Column("number", Integer, nullable=False),
)
"""The steps that the jobs have done; no key prevents a duplicate."""


async def steady(job: JobContext) -> Mapping[str, object]:
    """Do the number of steps in the parameters. Each new run has a name, which its cursor keeps."""
    cursor: Mapping[str, Any] = job.cursor or {"run": token_hex(8), "number": 0}
    total = int(str(job.parameters["steps"]))
    while (number := cursor["number"] + 1) <= total:
        cursor = {"run": cursor["run"], "number": number}
        async with job.step(cursor, processed=number, total=total) as tx:
            await tx.execute(insert(steps).values(job_id=job.job_id, **cursor))
        await asyncio.sleep(PAUSE_SECONDS)
    return cursor


async def failing(job: JobContext) -> Mapping[str, object]:
    """Do the same step, then raise a retryable error, in each attempt: the cursor does not move."""
    async with job.step({"run": "none", "number": 1}):
        pass
    raise RetryableJobError("NOT_YET", "a later attempt may succeed")


async def invalid(_job: JobContext) -> Mapping[str, object]:
    raise PermanentJobError("INVALID", "the request is invalid")


HANDLERS: Mapping[str, JobHandler] = {work.__name__: FunctionHandler(work) for work in (steady, failing, invalid)}


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    logger = build_logger("chaos-job-worker", LogSink(None))
    async with Database.open(os.environ["DATABASE_URL"], pool_size=7) as database:
        limits = WorkerLimits(SLOTS, LEASE_SECONDS, 0.2, Backoff(0.1, 0.5))
        metrics = JobMetrics(CollectorRegistry(), HANDLERS)
        worker = JobWorker("chaos", HANDLERS, database, limits, metrics, logger)
        running = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(stop.wait())
        logger.info("Service started")
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # it must not end without SIGTERM
        await worker.drain(DRAIN_SECONDS)
        await cancel_and_wait(running)


if __name__ == "__main__":
    asyncio.run(main())
