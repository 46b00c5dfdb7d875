"""Periodic jobs with many enqueuers at once, after a pause, and for the first time, on both databases."""

import asyncio
from datetime import timedelta

from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from safevideo_common.database.tables import batch_jobs, schedule_fires
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import UNFINISHED, JobStatus
from safevideo_common.jobs.scheduler import Interval, PeriodicJob, PeriodicJobEnqueuer
from safevideo_testkit.harness.jobs import JobHarness

YEARLY = PeriodicJob("yearly", "a", Interval(timedelta(days=365)), {"number": 1})
SHORT = PeriodicJob("short", "b", Interval(timedelta(days=300)))


def enqueuer(harness: JobHarness, *periodic_jobs: PeriodicJob) -> PeriodicJobEnqueuer:
    return PeriodicJobEnqueuer(
        harness.database, periodic_jobs, lambda: None, JobMetrics(CollectorRegistry(), ()), harness.logger
    )


async def queued_jobs(harness: JobHarness) -> list[tuple[str, str]]:
    async with harness.database.read_connection() as reading:
        rows = await reading.execute(select(batch_jobs.c.job_type, batch_jobs.c.created_by))
        return sorted((row.job_type, row.created_by) for row in rows)


async def test_one_of_ten_concurrent_enqueuers_enqueues_each_job(harness: JobHarness) -> None:
    for _ in range(3):
        await asyncio.gather(*(enqueuer(harness, YEARLY, SHORT).run_once() for _ in range(10)))
    assert await queued_jobs(harness) == [("a", "schedule"), ("b", "schedule")]


async def test_enqueuer_enqueues_missed_fire_times_once(harness: JobHarness) -> None:
    ours = enqueuer(harness, YEARLY)
    assert await ours.run_once() == 1
    await _forget_years(harness, 7)
    async with harness.database.transaction() as tx:
        await tx.execute(update(batch_jobs).values(status="completed", active_key=None))
    enqueued = await asyncio.gather(*(enqueuer(harness, YEARLY).run_once() for _ in range(10)))
    assert sum(enqueued) == 1
    assert len(await queued_jobs(harness)) == 2


async def test_enqueuer_skips_a_fire_time_whose_job_is_done(harness: JobHarness) -> None:
    assert await enqueuer(harness, YEARLY).run_once() == 1
    async with harness.database.transaction() as tx:
        await tx.execute(update(batch_jobs).values(status="completed", active_key=None))
    assert await enqueuer(harness, YEARLY).run_once() == 0


async def test_enqueuer_skips_fire_times_while_its_last_job_is_unfinished(harness: JobHarness) -> None:
    """As while the gate of the job's type is closed: no job of it is claimed."""
    ours = enqueuer(harness, YEARLY)
    assert await ours.run_once() == 1
    for status in UNFINISHED:
        await _forget_years(harness, 7)
        async with harness.database.transaction() as tx:
            await tx.execute(update(batch_jobs).values(status=status))
        assert await ours.run_once() == 0
        assert await ours.run_once() == 0
    assert len(await queued_jobs(harness)) == 1
    async with harness.database.transaction() as tx:
        await tx.execute(update(batch_jobs).values(status=JobStatus.FAILED, active_key=None))
    assert await ours.run_once() == 0  # what was skipped does not come after all
    await _forget_years(harness, 1)
    assert await ours.run_once() == 1


async def _forget_years(harness: JobHarness, years: int) -> None:
    async with harness.database.transaction() as tx:
        last = await tx.scalar(select(schedule_fires.c.slot))
        assert last is not None
        await tx.execute(update(schedule_fires).values(slot=last - years * timedelta(days=365)))


async def test_enqueuer_skips_an_earlier_fire_time(harness: JobHarness) -> None:
    assert await enqueuer(harness, YEARLY).run_once() == 1
    behind = PeriodicJob("yearly", "a", Interval(timedelta(days=365 * 40)))
    assert await enqueuer(harness, behind).run_once() == 0
