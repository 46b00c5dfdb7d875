"""Jobs as callers enqueue, list, cancel and retry them, on both databases."""

import asyncio

import pytest
from sqlalchemy import select

from safevideo_common.database.tables import outbox
from safevideo_common.errors import InvalidStatusTransition, JobNotCancellable, JobNotFound
from safevideo_common.jobs.model import JobStatus, NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.admin import Enqueued, JobFilter
from safevideo_testkit.harness.jobs import JobHarness

SYNC = NewJob("performer_sync", {"fullSync": True}, unique_key="performer_sync")


async def enqueue(harness: JobHarness, job: NewJob) -> Enqueued:
    async with harness.database.transaction() as tx:
        return await job_admin.enqueue(tx, job)


async def test_enqueue_writes_the_job_and_its_message(harness: JobHarness) -> None:
    new = NewJob("kyc_resync", {"requestIds": [1]}, Priority.HIGH, "kyc-worker", created_by="ops", request_id="r-1")
    job_id, is_new = await enqueue(harness, new)
    job = await harness.job(job_id)
    assert is_new
    assert (job.status, job.priority, job.parameters) == (JobStatus.QUEUED, Priority.HIGH, {"requestIds": [1]})
    assert (job.error, job.attempts, job.progress, job.created_by, job.request_id) == (None, 0, 0, "ops", "r-1")
    assert job.created_at == job.queued_at == job.next_try_at
    async with harness.database.read_connection() as reading:
        message = (await reading.execute(select(outbox))).one()
    assert (message.topic, message.message_key) == ("integration.commands.v1", b"kyc_resync")
    assert message.payload == b'{"jobId":%d,"jobType":"kyc_resync","runner":"kyc-worker"}' % job_id


async def test_enqueue_returns_the_active_job_with_the_same_key(harness: JobHarness) -> None:
    first = await enqueue(harness, SYNC)
    again = await asyncio.gather(*(enqueue(harness, SYNC) for _ in range(4)))
    assert set(again) == {Enqueued(first.job_id, is_new=False)}


async def test_concurrent_enqueues_with_one_key_create_one_job(harness: JobHarness) -> None:
    enqueued = await asyncio.gather(*(enqueue(harness, SYNC) for _ in range(4)))
    assert len({each.job_id for each in enqueued}) == 1
    assert sum(each.is_new for each in enqueued) == 1


async def test_enqueue_frees_the_key_of_a_job_ended_by_hand(harness: JobHarness) -> None:
    first = await enqueue(harness, SYNC)
    await harness.update_row(first.job_id, status="failed")
    assert (await enqueue(harness, SYNC)).is_new


async def test_cancel_ends_a_queued_job_and_frees_its_key(harness: JobHarness) -> None:
    job_id, _ = await enqueue(harness, SYNC)
    async with harness.database.transaction() as tx:
        job = await job_admin.cancel(tx, job_id, "no longer needed")
    assert (job.status, job.cancel_reason) == (JobStatus.CANCELLED, "no longer needed")
    assert job.finished_at is not None
    assert (await enqueue(harness, SYNC)).is_new


async def test_cancel_of_a_running_job_keeps_the_first_reason(harness: JobHarness) -> None:
    job_id, _ = await enqueue(harness, SYNC)
    await harness.update_row(job_id, status="processing")
    async with harness.database.transaction() as tx:
        await job_admin.cancel(tx, job_id, "first")
        job = await job_admin.cancel(tx, job_id, "second")
    assert (job.status, job.cancel_reason) == (JobStatus.PROCESSING, "first")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_finished_job_can_be_retried_but_not_cancelled(harness: JobHarness, status: str) -> None:
    job_id, _ = await enqueue(harness, SYNC)
    await harness.update_row(job_id, status=status, error="X: y", active_key=None)
    async with harness.database.transaction() as tx:
        with pytest.raises(JobNotCancellable):
            await job_admin.cancel(tx, job_id, "too late")
        job = await job_admin.retry(tx, job_id)
    assert (job.status, job.error) == (JobStatus.QUEUED, None)
    assert not (await enqueue(harness, SYNC)).is_new


async def test_retry_rejects_an_unfinished_job(harness: JobHarness) -> None:
    job_id, _ = await enqueue(harness, NewJob("a"))
    async with harness.database.transaction() as tx:
        with pytest.raises(InvalidStatusTransition):
            await job_admin.retry(tx, job_id)


async def test_retry_rejects_a_job_whose_key_is_taken(harness: JobHarness) -> None:
    first, _ = await enqueue(harness, SYNC)
    await harness.update_row(first, status="failed", active_key=None)
    second, _ = await enqueue(harness, SYNC)
    async with harness.database.transaction() as tx:
        with pytest.raises(InvalidStatusTransition) as rejected:
            await job_admin.retry(tx, first)
    assert rejected.value.details == {"jobId": second}


async def test_missing_job_is_not_found(harness: JobHarness) -> None:
    with pytest.raises(JobNotFound):
        await harness.job(1)
    async with harness.database.transaction() as tx:
        with pytest.raises(JobNotFound):
            await job_admin.cancel(tx, 1, "")


async def test_find_returns_pages_newest_first(harness: JobHarness) -> None:
    ids = [(await enqueue(harness, NewJob(name))).job_id for name in "aabab"]
    async with harness.database.read_connection() as reading:
        page, total = await job_admin.find(reading, JobFilter(job_type="a"), page=1, limit=2)
        assert ([job.id for job in page], total) == ([ids[3], ids[1]], 3)
        page, total = await job_admin.find(reading, JobFilter(status=JobStatus.QUEUED), page=2, limit=2, order="asc")
        assert ([job.id for job in page], total) == ([ids[2], ids[3]], 5)
        assert await job_attempts.attempts_of(reading, ids[0]) == []
