"""A job worker as a process. Arguments: the URL of the database, the seconds of a lease. It logs to stdout.

Its handlers misbehave, or do what a test must interrupt.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from safevideo_common.database.engine import Database
from safevideo_common.jobs.handler import JobContext, JobHandler
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.worker import JobWorker, WorkerLimits
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.harness.jobs import FunctionHandler


async def step_on(job: JobContext) -> None:
    """Save a cursor again and again, for ever."""
    for place in range(1, 1_000_000):
        async with job.step({"place": place}):
            pass
        os.write(1, f"step of {job.job_id}\n".encode())  # after the commit: a kill may follow at once
        await asyncio.sleep(0.05)


async def answer_late(job: JobContext) -> Mapping[str, object]:
    """Work without a checkpoint, and return a result."""
    os.write(1, f"working on {job.job_id}\n".encode())
    await asyncio.sleep(float(str(job.parameters["seconds"])))
    return {"by": "program"}


async def kill_the_process(_job: JobContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def block_the_loop(job: JobContext) -> Mapping[str, object]:
    """Block the event loop until the file `until` exists."""
    os.write(1, f"blocking in {job.job_id}\n".encode())
    while not Path(str(job.parameters["until"])).exists():  # noqa: ASYNC240 - the test is about this
        time.sleep(0.05)  # noqa: ASYNC251
    return {"by": "program"}


async def block_a_thread(job: JobContext) -> Mapping[str, object]:
    await asyncio.to_thread(time.sleep, float(str(job.parameters["seconds"])))
    return {"by": "program"}


HANDLERS: Mapping[str, JobHandler] = {
    work.__name__: FunctionHandler(work)
    for work in (step_on, answer_late, kill_the_process, block_the_loop, block_a_thread)
}


async def work(url: str, lease_seconds: float) -> None:
    async with Database.open(url, pool_size=7) as database:
        logger = build_logger("program", LogSink(None))
        limits = WorkerLimits(10, lease_seconds, 0.05, Backoff(0.05, 0.1))
        await JobWorker(
            "test-worker", HANDLERS, database, limits, JobMetrics(CollectorRegistry(), HANDLERS), logger
        ).run()


asyncio.run(work(sys.argv[1], float(sys.argv[2])))
