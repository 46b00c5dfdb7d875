"""Words mistyped by hand in `batch_jobs`: they are normalized, or the job is counted as invalid."""

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.errors import JobNotCancellable
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.maintenance import QueueMonitor
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import JobStatus, NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import JobFilter
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness


async def nothing(job: JobContext) -> None:
    pass


async def measure(harness: JobHarness) -> float | None:
    """Measure once as a worker does, and return the number of jobs with an unknown status."""
    registry = CollectorRegistry()
    await QueueMonitor(harness.database, JobMetrics(registry, ()), harness.logger).measure()
    return registry.get_sample_value("safevideo_jobs_invalid")


@pytest.mark.parametrize("status", ["Queued", " queued", "QUEUED "])
async def test_monitor_normalizes_case_and_spaces_of_a_status(harness: JobHarness, status: str) -> None:
    job_id = await harness.enqueue(NewJob("a"))
    await harness.update_row(job_id, status=status)
    assert (await harness.job(job_id)).status is JobStatus.QUEUED
    assert await measure(harness) == 0
    async with harness.running({"a": FunctionHandler(nothing)}):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)


@pytest.mark.parametrize(
    ("word", "priority"), [("hgih", Priority.NORMAL), ("", Priority.NORMAL), (" High", Priority.HIGH)]
)
async def test_monitor_normalizes_an_invalid_priority(harness: JobHarness, word: str, priority: Priority) -> None:
    job_id, other = [await harness.enqueue(NewJob("a", priority=Priority.URGENT)) for _ in range(2)]
    await harness.update_row(job_id, priority=word)
    assert (await harness.job(job_id)).priority is priority
    await measure(harness)
    async with harness.running({"a": FunctionHandler(nothing)}):
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.priority, (await harness.job(other)).priority) == (priority, Priority.URGENT)


async def test_monitor_counts_jobs_with_an_unknown_status(harness: JobHarness) -> None:
    lost, other = [await harness.enqueue(NewJob("a")) for _ in range(2)]
    await harness.update_row(lost, status="pending")
    assert await measure(harness) == await measure(harness) == 1
    async with harness.running({"a": FunctionHandler(nothing)}):
        await harness.wait_for_status(other, JobStatus.COMPLETED)
    async with harness.database.read_connection() as reading:
        found, total = await job_admin.find(reading, JobFilter(status=JobStatus.UNKNOWN), page=1, limit=10)
    assert ([each.id for each in found], total) == ([lost], 1)
    assert found[0].status is JobStatus.UNKNOWN


async def test_job_with_unknown_status_can_be_retried_or_cancelled(harness: JobHarness) -> None:
    again, never = [await harness.enqueue(NewJob("a")) for _ in range(2)]
    for job_id in (again, never):
        await harness.update_row(job_id, status="pending")
    async with harness.database.transaction() as tx:
        assert (await job_admin.retry(tx, again)).status is JobStatus.QUEUED
        assert (await job_admin.cancel(tx, never, "no longer needed")).status is JobStatus.CANCELLED
        with pytest.raises(JobNotCancellable):
            await job_admin.cancel(tx, never, "again")
    async with harness.running({"a": FunctionHandler(nothing)}):
        await harness.wait_for_status(again, JobStatus.COMPLETED)
    assert await measure(harness) == 0


async def test_job_with_unknown_status_frees_its_key(harness: JobHarness) -> None:
    lost = await harness.enqueue(NewJob("a", unique_key="k"))
    await harness.update_row(lost, status="pending")
    assert await harness.enqueue(NewJob("a", unique_key="k")) != lost
