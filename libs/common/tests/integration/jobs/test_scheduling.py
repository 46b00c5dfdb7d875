"""Many schedulers at once, a pause, and the first time, on both engines."""

import asyncio
from datetime import timedelta

from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from safevideo_common.database.tables import batch_jobs, schedule_fires
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.scheduler import Interval, PeriodicJob, PeriodicJobEnqueuer
from safevideo_testkit.harness.jobs import JobHarness

YEARLY = PeriodicJob("yearly", "a", Interval(timedelta(days=365)), {"number": 1})
SHORT = PeriodicJob("short", "b", Interval(timedelta(days=300)))


def scheduler(bench: JobHarness, *entries: PeriodicJob) -> PeriodicJobEnqueuer:
    return PeriodicJobEnqueuer(bench.database, entries, lambda: None, JobMetrics(CollectorRegistry(), ()), bench.log)


async def queued(bench: JobHarness) -> list[tuple[str, str]]:
    async with bench.database.reading() as reading:
        rows = await reading.execute(select(batch_jobs.c.job_type, batch_jobs.c.created_by))
        return sorted((row.job_type, row.created_by) for row in rows)


async def test_of_ten_schedulers_at_once_one_fires(bench: JobHarness) -> None:
    for _ in range(3):
        await asyncio.gather(*(scheduler(bench, YEARLY, SHORT).look() for _ in range(10)))
    assert await queued(bench) == [("a", "schedule"), ("b", "schedule")]


async def test_what_was_missed_in_a_pause_fires_once(bench: JobHarness) -> None:
    ours = scheduler(bench, YEARLY)
    assert await ours.look() == 1
    async with bench.database.transaction() as tx:
        earlier = await tx.scalar(select(schedule_fires.c.slot))
        assert earlier is not None
        await tx.execute(update(schedule_fires).values(slot=earlier - 7 * timedelta(days=365)))
        await tx.execute(update(batch_jobs).values(status="completed", active_key=None))
    fired = await asyncio.gather(*(scheduler(bench, YEARLY).look() for _ in range(10)))
    assert sum(fired) == 1
    assert len(await queued(bench)) == 2


async def test_a_slot_that_has_fired_does_not_fire_again_when_its_job_is_done(bench: JobHarness) -> None:
    assert await scheduler(bench, YEARLY).look() == 1
    async with bench.database.transaction() as tx:
        await tx.execute(update(batch_jobs).values(status="completed", active_key=None))
    assert await scheduler(bench, YEARLY).look() == 0


async def test_a_scheduler_whose_clock_is_behind_never_goes_back(bench: JobHarness) -> None:
    assert await scheduler(bench, YEARLY).look() == 1
    behind = PeriodicJob("yearly", "a", Interval(timedelta(days=365 * 40)))
    assert await scheduler(bench, behind).look() == 0
