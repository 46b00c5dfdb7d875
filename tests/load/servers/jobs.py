"""Claims and completes the no-op jobs of `DATABASE_URL`, in one of three ways, and prints `RESULT {…}`.

`engine`: the engine of the workers with their default settings, its heartbeat and rescue beside it. `plain`: claim one,
run it, complete it. `limit`: the writes alone, a batch a statement, with ready-made values: nothing is looked for,
locked, checked or run.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter, process_time
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select, update

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import AttemptOutcome, JobAttempt, JobStatus, Priority
from safevideo_common.jobs.running_jobs import POOL_SIZE
from safevideo_common.jobs.runtime import limits_of
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.queue import _CLAIM_NEW_RUN
from safevideo_common.jobs.worker import JobWorker
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.tasks import cancel_and_wait

JOB_TYPE: Final = "no_op"
NOW: Final = datetime(2026, 11, 24, tzinfo=UTC)

_c: Final = batch_jobs.c


class NoOp:
    """Counts."""

    def __init__(self) -> None:
        self.done = 0

    async def run(self, job: JobContext) -> None:
        """Nothing."""
        self.done += 1


async def engine(database: Database, settings: JobSettings, jobs: int) -> None:
    handler, log = NoOp(), build_logger("bench", LogSink(None, stdout=False))
    metrics = JobMetrics(CollectorRegistry(), [JOB_TYPE])
    worker = JobWorker("bench", {JOB_TYPE: handler}, database, limits_of(settings), metrics, log)
    running = asyncio.create_task(worker.run())
    while handler.done < jobs or not worker.is_idle:
        await asyncio.sleep(0.005)
    await cancel_and_wait(running)


async def plain(database: Database, _settings: JobSettings, jobs: int) -> None:
    handler = NoOp()
    queued = (_c.status == JobStatus.QUEUED, _c.job_type == JOB_TYPE, _c.priority == Priority.NORMAL)
    first = select(_c.id).where(*queued).order_by(_c.next_try_at, _c.id)
    for _ in range(jobs):
        async with database.transaction() as tx:
            job_id = await tx.scalar(first.limit(1).with_for_update(skip_locked=True))
            one = update(batch_jobs).where(_c.id == job_id)
            await tx.execute(one.values(status=JobStatus.PROCESSING, started_at=func.utc_timestamp(6)))
        await handler.run(None)  # type: ignore[arg-type]
        async with database.transaction() as tx:
            await tx.execute(one.values(status=JobStatus.COMPLETED, finished_at=func.utc_timestamp(6), progress=100))


async def limit(database: Database, settings: JobSettings, jobs: int) -> None:
    for batch in _batches(await _ids(database), limits_of(settings).fetch):
        async with database.transaction() as tx:
            taking = {"ids": batch, "token": "t" * 32, "by": "bench-00000000", "lease_seconds": 30.0}
            await tx.execute(_CLAIM_NEW_RUN, taking)
        async with database.transaction() as tx:
            await job_attempts._WRITE.execute(tx, [_completed(job_id) for job_id in batch])
            await job_attempts.record_attempts(tx, [_tried(job_id) for job_id in batch])


async def _ids(database: Database) -> list[int]:
    async with database.read_connection() as reading:
        return list(await reading.scalars(select(_c.id)))


def _batches(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _completed(job_id: int) -> tuple[object, ...]:
    return (job_id, "", {}, "", "completed", None, NOW, None, NOW, NOW, 1, 0, None, None, 100, None, NOW)


def _tried(job_id: int) -> JobAttempt:
    return JobAttempt(job_id, 1, "bench-00000000", NOW, NOW, AttemptOutcome.COMPLETED, None)


WAYS: Final[Mapping[str, Callable[[Database, JobSettings, int], Awaitable[None]]]] = {
    "engine": engine,
    "plain": plain,
    "limit": limit,
}


async def main(way: str, jobs: int) -> None:
    settings = JobSettings(kafka_bootstrap_servers="")
    async with Database.open(os.environ["DATABASE_URL"], pool_size=POOL_SIZE) as database:
        await database.probe()
        began, cpu = perf_counter(), process_time()
        await WAYS[way](database, settings, jobs)
        took = {"seconds": perf_counter() - began, "cpu": process_time() - cpu}
    print("RESULT", json.dumps(took))


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
