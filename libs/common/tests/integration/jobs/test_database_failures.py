"""A deadlock, a lock timeout and a lost connection at each write of a job, on MySQL."""

from collections.abc import AsyncIterator, Mapping

import pytest
from sqlalchemy import func, select, text

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import leases
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.commit_proxy import Cut, open_commit_fault_proxy
from safevideo_testkit.harness.jobs import BlockingHandler, FunctionHandler, JobHarness

STEPS = 3
LIMITS = WorkerLimits(4, 1.0, 0.05, Backoff(0.02, 0.05))
LONG_LEASES = WorkerLimits(4, 60.0, 0.05, Backoff(0.02, 0.05))
"""No job is rescued, also on a busy machine."""
# The count is in a table without transactions, so that a rollback does not change it.
FAULTS = (
    "CREATE TABLE faults (writes INT NOT NULL, fault_at INT NOT NULL, number INT NOT NULL) ENGINE = MyISAM",
    "INSERT INTO faults VALUES (0, 0, 0)",
    """CREATE TRIGGER every_write BEFORE UPDATE ON batch_jobs FOR EACH ROW BEGIN
    UPDATE faults SET writes = writes + 1;
    IF (SELECT writes = fault_at AND number = 1213 FROM faults) THEN
        SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found';
    END IF;
    IF (SELECT writes = fault_at AND number = 1205 FROM faults) THEN
        SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'Lock wait timeout exceeded';
    END IF; END""",
)


@pytest.fixture
def database_url(migrated_mysql_database: str) -> str:
    return migrated_mysql_database


@pytest.fixture
async def harness(database_url: str, log: FilteringBoundLogger) -> AsyncIterator[JobHarness]:
    async with Database.open(database_url) as database:
        yield JobHarness(database, log)


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def count_on(job: JobContext) -> Mapping[str, object]:
    """Do steps whose work cannot be repeated: an existing row would fail the step for ever."""
    first = 0 if job.cursor is None else job.cursor["place"]
    assert isinstance(first, int)
    for place in range(first, STEPS):
        async with job.step({"place": place + 1}, processed=place + 1, total=STEPS) as tx:
            await tx.execute(leases.insert().values(name=f"step-{place}", holder="x", expires_at=func.utc_timestamp(6)))
    return {"steps": STEPS}


async def assert_completed_with_each_step_once(harness: JobHarness, job_id: int) -> None:
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.result, job.progress, job.error) == ({"steps": STEPS}, 100, None)
    async with harness.database.transaction() as tx:
        assert await tx.scalar(select(func.count()).select_from(leases)) == STEPS
        await tx.execute(leases.delete())
    assert (await harness.attempts(job_id))[-1] == (job.attempts, "completed")


@pytest.mark.parametrize("number", [1213, 1205])
async def test_worker_completes_each_step_once_when_a_write_is_rejected(harness: JobHarness, number: int) -> None:
    await run(harness.database, *FAULTS)
    writes = 2 + STEPS  # the claim, the steps, the completion
    async with harness.running({"a": FunctionHandler(count_on)}, LONG_LEASES):
        for fault_at in range(1, writes + 1):
            await run(harness.database, f"UPDATE faults SET writes = 0, fault_at = {fault_at}, number = {number}")
            job_id = await harness.enqueue(NewJob("a"))
            await assert_completed_with_each_step_once(harness, job_id)
            assert len(await harness.attempts(job_id)) <= 2, "more than one attempt is lost"
            async with harness.database.read_connection() as reading:
                assert await reading.scalar(text("SELECT writes >= fault_at FROM faults")), (
                    "the fault did not happen at this write"
                )


@pytest.mark.parametrize("number", [1213, 1205])
async def test_worker_repeats_a_rejected_rescue_and_a_rejected_renewal(harness: JobHarness, number: int) -> None:
    await run(harness.database, *FAULTS)
    dead, blocking = await harness.enqueue(NewJob("b")), BlockingHandler()
    await harness.update_row(dead, status="processing")
    fault_at_next = f"UPDATE faults SET writes = 0, fault_at = 1, number = {number}"
    await run(harness.database, fault_at_next)
    patient = WorkerLimits(4, 6.0, 0.05, Backoff(0.02, 0.05))  # one renewal of three is rejected
    async with harness.running({"a": blocking}, patient):
        await harness.wait_for_status(dead, JobStatus.QUEUED)
        job_id = await harness.enqueue(NewJob("a"))
        await blocking.wait_until_started()
        await run(harness.database, fault_at_next)

        async def two_writes_later() -> bool:
            async with harness.database.read_connection() as reading:
                return bool(await reading.scalar(text("SELECT writes > 2 FROM faults")))

        await eventually(two_writes_later)
        blocking.release.set()
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert await harness.attempts(job_id) == [(1, "completed")]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_worker_completes_each_step_once_when_commits_lose_their_connection(
    harness: JobHarness, database_url: str, log: FilteringBoundLogger, cut: Cut
) -> None:
    async with open_commit_fault_proxy(database_url) as (url, cutter), Database.open(url, pool_size=7) as cut_off:
        async with harness.running({"a": FunctionHandler(count_on)}, LIMITS, database=cut_off):
            for cuts in ([cut], [cut] * 2, [cut] * 4):
                cutter.cut_next(*cuts)
                job_id = await harness.enqueue(NewJob("a", max_attempts=50))
                await assert_completed_with_each_step_once(harness, job_id)
        assert cutter.cuts_made == 7


async def test_locked_row_delays_only_its_own_job(harness: JobHarness) -> None:
    async def nothing(_job: JobContext) -> None:
        pass

    locked, free = await harness.enqueue(NewJob("a")), await harness.enqueue(NewJob("a"))
    async with harness.running({"a": FunctionHandler(nothing)}, WorkerLimits(1, 30.0, 0.05, Backoff(0.05, 0.1))):
        async with harness.database.transaction() as tx:
            await tx.execute(text(f"SELECT id FROM batch_jobs WHERE id = {locked} FOR UPDATE"))
            await harness.wait_for_status(free, JobStatus.COMPLETED)
        await harness.wait_for_status(locked, JobStatus.COMPLETED)


async def test_completer_writes_a_locked_row_when_it_is_unlocked(harness: JobHarness) -> None:
    blocking = BlockingHandler()
    async with harness.running({"a": blocking}, WorkerLimits(4, 30.0, 0.05, Backoff(0.05, 0.1))):
        locked, free = await harness.enqueue(NewJob("a")), await harness.enqueue(NewJob("a"))
        await blocking.wait_until_started(2)
        async with harness.database.transaction() as tx:
            await tx.execute(text(f"SELECT id FROM batch_jobs WHERE id = {locked} FOR UPDATE"))
            blocking.release.set()
            await harness.wait_for_status(free, JobStatus.COMPLETED)
            assert (await harness.job(locked)).status is JobStatus.PROCESSING
        await harness.wait_for_status(locked, JobStatus.COMPLETED)
    assert await harness.attempts(locked) == [(1, "completed")]
