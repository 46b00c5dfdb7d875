"""A transaction of the handler's own, which the cursor seals: it is committed under the lease, or not at all."""

from sqlalchemy import func, select

from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.handler import JobContext, LeaseLost
from safevideo_common.jobs.model import JobStatus
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import NewJob
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness


async def left(bench: JobHarness) -> int:
    """What the handlers have written."""
    async with bench.database.reading() as reading:
        return await reading.scalar(select(func.count()).where(batch_jobs.c.job_type == "written")) or 0


async def test_the_cursor_is_committed_with_the_work(bench: JobHarness) -> None:
    async def work(job: JobContext) -> None:
        async with bench.database.transaction() as tx:
            await job_admin.enqueue(tx, NewJob("written"))
            await job.seal(tx, {"place": 1}, processed=1, total=4)

    async with bench.running({"a": FunctionHandler(work)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (job.cursor, job.processed_items, job.total_items, await left(bench)) == ({"place": 1}, 1, 4, 1)


async def test_without_its_lease_a_run_seals_nothing(bench: JobHarness) -> None:
    refused: list[LeaseLost] = []

    async def work(job: JobContext) -> None:
        if refused:
            return
        await bench.by_hand(job.job_id, lease_token="of somebody else")
        try:
            async with bench.database.transaction() as tx:
                await job_admin.enqueue(tx, NewJob("written"))
                await job.seal(tx, {"place": 1})
        except LeaseLost as lost:
            refused.append(lost)
            await bench.reset_by_hand(job.job_id)
            raise

    async with bench.running({"a": FunctionHandler(work)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (len(refused), job.cursor, await left(bench)) == (1, None, 0)
