"""Jobs as those see them who ask for them, on both engines."""

import asyncio

import pytest
from sqlalchemy import select, update

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, outbox
from safevideo_common.errors import InvalidStatusTransition, JobNotCancellable, JobNotFound
from safevideo_common.jobs.model import JobStatus, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import Enqueued, Job, JobFilter, NewJob

SYNC = NewJob("performer_sync", {"fullSync": True}, unique_key="performer_sync")


async def enqueue(database: Database, job: NewJob) -> Enqueued:
    async with database.transaction() as tx:
        return await job_admin.enqueue(tx, job)


async def get(database: Database, job_id: int) -> Job:
    async with database.reading() as reading:
        return await job_admin.get(reading, job_id)


async def by_hand(database: Database, job_id: int, **values: object) -> None:
    async with database.transaction() as tx:
        await tx.execute(update(batch_jobs).where(batch_jobs.c.id == job_id).values(**values))


async def test_a_job_is_queued_with_the_message_that_wakes_its_workers(database: Database) -> None:
    asked = NewJob("kyc_resync", {"requestIds": [1]}, Priority.HIGH, "kyc-worker", created_by="ops", request_id="r-1")
    job_id, is_new = await enqueue(database, asked)
    job = await get(database, job_id)
    assert is_new
    assert (job.status, job.priority, job.parameters) == (JobStatus.QUEUED, Priority.HIGH, {"requestIds": [1]})
    assert (job.error, job.tries, job.progress, job.created_by, job.request_id) == (None, 0, 0, "ops", "r-1")
    assert job.created_at == job.queued_at == job.next_try_at
    async with database.reading() as reading:
        message = (await reading.execute(select(outbox))).one()
    assert (message.topic, message.message_key) == ("integration.commands.v1", b"kyc_resync")
    assert message.payload == b'{"jobId":%d,"jobType":"kyc_resync","runner":"kyc-worker"}' % job_id


async def test_of_two_with_one_key_the_second_is_the_first(database: Database) -> None:
    first = await enqueue(database, SYNC)
    again = await asyncio.gather(*(enqueue(database, SYNC) for _ in range(4)))
    assert set(again) == {Enqueued(first.job_id, is_new=False)}


async def test_of_many_at_once_with_one_key_one_is_new(database: Database) -> None:
    enqueued = await asyncio.gather(*(enqueue(database, SYNC) for _ in range(4)))
    assert len({each.job_id for each in enqueued}) == 1
    assert sum(each.is_new for each in enqueued) == 1


async def test_a_key_is_free_again_when_its_job_was_ended_by_hand(database: Database) -> None:
    first = await enqueue(database, SYNC)
    await by_hand(database, first.job_id, status="failed")
    assert (await enqueue(database, SYNC)).is_new


async def test_a_queued_job_is_cancelled_at_once_and_its_key_is_free(database: Database) -> None:
    job_id, _ = await enqueue(database, SYNC)
    async with database.transaction() as tx:
        job = await job_admin.cancel(tx, job_id, "no longer needed")
    assert (job.status, job.cancel_reason) == (JobStatus.CANCELLED, "no longer needed")
    assert job.finished_at is not None
    assert (await enqueue(database, SYNC)).is_new


async def test_a_running_job_is_asked_to_stop(database: Database) -> None:
    job_id, _ = await enqueue(database, SYNC)
    await by_hand(database, job_id, status="processing")
    async with database.transaction() as tx:
        await job_admin.cancel(tx, job_id, "first")
        job = await job_admin.cancel(tx, job_id, "second")
    assert (job.status, job.cancel_reason) == (JobStatus.PROCESSING, "first")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_what_is_finished_is_not_cancelled_but_can_be_run_again(database: Database, status: str) -> None:
    job_id, _ = await enqueue(database, SYNC)
    await by_hand(database, job_id, status=status, error="X: y", active_key=None)
    async with database.transaction() as tx:
        with pytest.raises(JobNotCancellable):
            await job_admin.cancel(tx, job_id, "too late")
        job = await job_admin.retry(tx, job_id)
    assert (job.status, job.error) == (JobStatus.QUEUED, None)
    assert not (await enqueue(database, SYNC)).is_new


async def test_what_is_not_finished_is_not_run_again(database: Database) -> None:
    job_id, _ = await enqueue(database, NewJob("a"))
    async with database.transaction() as tx:
        with pytest.raises(InvalidStatusTransition):
            await job_admin.retry(tx, job_id)


async def test_a_job_is_not_run_again_while_another_has_its_key(database: Database) -> None:
    first, _ = await enqueue(database, SYNC)
    await by_hand(database, first, status="failed", active_key=None)
    second, _ = await enqueue(database, SYNC)
    async with database.transaction() as tx:
        with pytest.raises(InvalidStatusTransition) as refused:
            await job_admin.retry(tx, first)
    assert refused.value.details == {"jobId": second}


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(JobNotFound):
        await get(database, 1)
    async with database.transaction() as tx:
        with pytest.raises(JobNotFound):
            await job_admin.cancel(tx, 1, "")


async def test_jobs_are_listed_newest_first_page_by_page(database: Database) -> None:
    ids = [(await enqueue(database, NewJob(name))).job_id for name in "aabab"]
    async with database.reading() as reading:
        page, total = await job_admin.find(reading, JobFilter(job_type="a"), page=1, limit=2)
        assert ([job.id for job in page], total) == ([ids[3], ids[1]], 3)
        page, total = await job_admin.find(reading, JobFilter(status=JobStatus.QUEUED), page=2, limit=2, order="asc")
        assert ([job.id for job in page], total) == ([ids[2], ids[3]], 5)
        assert await job_admin.attempts_of(reading, ids[0]) == []
