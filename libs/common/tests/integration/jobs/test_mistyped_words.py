"""Words that operators have mistyped in `batch_jobs`: the job is found all the same, or it is said that it is lost."""

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.errors import JobNotCancellable
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.maintenance import QueueMonitor
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import JobStatus, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import JobFilter, NewJob
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness


async def nothing(job: JobContext) -> None:
    pass


async def look(bench: JobHarness) -> float | None:
    """As every worker does every few seconds; how many jobs have a status of which nobody can say what it should be."""
    registry = CollectorRegistry()
    await QueueMonitor(bench.database, JobMetrics(registry, ()), bench.log).look()
    return registry.get_sample_value("safevideo_jobs_unknown")


@pytest.mark.parametrize("status", ["Queued", " queued", "QUEUED "])
async def test_a_status_that_is_nearly_right_is_taken_for_what_it_should_be(bench: JobHarness, status: str) -> None:
    job_id = await bench.enqueue(NewJob("a"))
    await bench.by_hand(job_id, status=status)
    assert (await bench.job(job_id)).status is JobStatus.QUEUED
    assert await look(bench) == 0
    async with bench.running({"a": FunctionHandler(nothing)}):
        await bench.becomes(job_id, JobStatus.COMPLETED)


@pytest.mark.parametrize(
    ("word", "priority"), [("hgih", Priority.NORMAL), ("", Priority.NORMAL), (" High", Priority.HIGH)]
)
async def test_a_priority_that_is_none_is_mended_and_the_job_runs(
    bench: JobHarness, word: str, priority: Priority
) -> None:
    job_id, other = [await bench.enqueue(NewJob("a", priority=Priority.URGENT)) for _ in range(2)]
    await bench.by_hand(job_id, priority=word)
    assert (await bench.job(job_id)).priority is priority
    await look(bench)
    async with bench.running({"a": FunctionHandler(nothing)}):
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert (job.priority, (await bench.job(other)).priority) == (priority, Priority.URGENT)


async def test_a_status_that_means_nothing_is_left_counted_and_shown(bench: JobHarness) -> None:
    lost, other = [await bench.enqueue(NewJob("a")) for _ in range(2)]
    await bench.by_hand(lost, status="pending")
    assert await look(bench) == await look(bench) == 1
    async with bench.running({"a": FunctionHandler(nothing)}):
        await bench.becomes(other, JobStatus.COMPLETED)
    async with bench.database.reading() as reading:
        found, total = await job_admin.find(reading, JobFilter(status=JobStatus.UNKNOWN), page=1, limit=10)
    assert ([each.id for each in found], total) == ([lost], 1)
    assert found[0].status is JobStatus.UNKNOWN


async def test_a_job_whose_status_means_nothing_can_be_run_again_or_cancelled(bench: JobHarness) -> None:
    again, never = [await bench.enqueue(NewJob("a")) for _ in range(2)]
    for job_id in (again, never):
        await bench.by_hand(job_id, status="pending")
    async with bench.database.transaction() as tx:
        assert (await job_admin.retry(tx, again)).status is JobStatus.QUEUED
        assert (await job_admin.cancel(tx, never, "enough")).status is JobStatus.CANCELLED
        with pytest.raises(JobNotCancellable):
            await job_admin.cancel(tx, never, "again")
    async with bench.running({"a": FunctionHandler(nothing)}):
        await bench.becomes(again, JobStatus.COMPLETED)
    assert await look(bench) == 0


async def test_a_job_whose_status_means_nothing_gives_its_key_up(bench: JobHarness) -> None:
    lost = await bench.enqueue(NewJob("a", unique_key="k"))
    await bench.by_hand(lost, status="pending")
    assert await bench.enqueue(NewJob("a", unique_key="k")) != lost
