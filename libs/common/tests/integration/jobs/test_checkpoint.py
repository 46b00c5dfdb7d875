"""A transaction of the handler with a checkpoint: it is committed under the lease, or not at all."""

from sqlalchemy import func, select

from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.handler import JobContext, LeaseLost
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness


async def jobs_written(harness: JobHarness) -> int:
    """Return the number of rows that the handlers have committed."""
    async with harness.database.read_connection() as reading:
        return await reading.scalar(select(func.count()).where(batch_jobs.c.job_type == "written")) or 0


async def test_checkpoint_commits_cursor_with_work(harness: JobHarness) -> None:
    async def work(job: JobContext) -> None:
        async with harness.database.transaction() as tx:
            await job_admin.enqueue(tx, NewJob("written"))
            await job.checkpoint(tx, {"place": 1}, processed=1, total=4)

    async with harness.running({"a": FunctionHandler(work)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (job.cursor, job.processed_items, job.total_items, await jobs_written(harness)) == ({"place": 1}, 1, 4, 1)


async def test_checkpoint_without_lease_commits_nothing(harness: JobHarness) -> None:
    lost: list[LeaseLost] = []

    async def work(job: JobContext) -> None:
        if lost:
            return
        await harness.update_row(job.job_id, lease_token="of another worker")
        try:
            async with harness.database.transaction() as tx:
                await job_admin.enqueue(tx, NewJob("written"))
                await job.checkpoint(tx, {"place": 1})
        except LeaseLost as error:
            lost.append(error)
            await harness.reset_by_hand(job.job_id)
            raise

    async with harness.running({"a": FunctionHandler(work)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (len(lost), job.cursor, await jobs_written(harness)) == (1, None, 0)
