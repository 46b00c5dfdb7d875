"""A transaction of the handler's own, which the cursor seals: it is committed under the lease, or not at all."""

from sqlalchemy import func, select

from safevideo_common.database import jobs
from safevideo_common.database.jobs import NewJob
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import JobStatus
from safevideo_common.jobs.handler import JobRun, LeaseLost
from safevideo_common.testing.job_bench import Does, JobBench


async def left(bench: JobBench) -> int:
    """What the handlers have written."""
    async with bench.database.reading() as reading:
        return await reading.scalar(select(func.count()).where(batch_jobs.c.job_type == "written")) or 0


async def test_the_cursor_is_committed_with_the_work(bench: JobBench) -> None:
    async def work(job: JobRun) -> None:
        async with bench.database.transaction() as tx:
            await jobs.enqueue(tx, NewJob("written"))
            await job.seal(tx, {"place": 1}, processed=1, total=4)

    async with bench.running({"a": Does(work)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (job.cursor, job.processed_items, job.total_items, await left(bench)) == ({"place": 1}, 1, 4, 1)


async def test_without_its_lease_a_run_seals_nothing(bench: JobBench) -> None:
    refused: list[LeaseLost] = []

    async def work(job: JobRun) -> None:
        if refused:
            return
        await bench.by_hand(job.job_id, lease_token="of somebody else")
        try:
            async with bench.database.transaction() as tx:
                await jobs.enqueue(tx, NewJob("written"))
                await job.seal(tx, {"place": 1})
        except LeaseLost as lost:
            refused.append(lost)
            await bench.reset_by_hand(job.job_id)
            raise

    async with bench.running({"a": Does(work)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert (len(refused), job.cursor, await left(bench)) == (1, None, 0)
