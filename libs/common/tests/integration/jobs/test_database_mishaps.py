"""A deadlock, a lock that is waited for too long, and a lost connection in each step that a job takes, on MySQL."""

from collections.abc import AsyncIterator, Mapping

import pytest
from sqlalchemy import func, select, text

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import leases
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import JobStatus
from safevideo_common.jobs.store.admin import NewJob
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.commit_proxy import Cut, open_commit_fault_proxy
from safevideo_testkit.harness.jobs import BlockingHandler, FunctionHandler, JobHarness

STEPS = 3
BOUNDS = WorkerLimits(4, 1.0, 0.05, Backoff(0.02, 0.05))
# Counted in a table without transactions, so that what is rolled back was counted all the same.
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
async def database_url(fresh_mysql_database: str) -> str:
    await migrate(fresh_mysql_database)
    return fresh_mysql_database


@pytest.fixture
async def bench(database_url: str, log: FilteringBoundLogger) -> AsyncIterator[JobHarness]:
    async with Database.open(database_url) as database:
        yield JobHarness(database, log)


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def count_on(job: JobContext) -> Mapping[str, object]:
    """Steps whose work cannot be done twice: a row that is there already would fail the step for ever."""
    first = 0 if job.cursor is None else job.cursor["place"]
    assert isinstance(first, int)
    for place in range(first, STEPS):
        async with job.step({"place": place + 1}, processed=place + 1, total=STEPS) as tx:
            await tx.execute(leases.insert().values(name=f"step-{place}", holder="x", expires_at=func.utc_timestamp(6)))
    return {"steps": STEPS}


async def ends_as_if_nothing_had_been(bench: JobHarness, job_id: int) -> None:
    job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert (job.result, job.progress, job.error) == ({"steps": STEPS}, 100, None)
    async with bench.database.transaction() as tx:
        assert await tx.scalar(select(func.count()).select_from(leases)) == STEPS
        await tx.execute(leases.delete())
    assert (await bench.tries(job_id))[-1] == (job.tries, "completed")


@pytest.mark.parametrize("number", [1213, 1205])
async def test_a_refusal_at_each_write_costs_a_try_and_no_step(bench: JobHarness, number: int) -> None:
    await run(bench.database, *FAULTS)
    writes = 2 + STEPS  # the claim, the steps, the ending
    async with bench.running({"a": FunctionHandler(count_on)}, BOUNDS):
        for fault_at in range(1, writes + 1):
            await run(bench.database, f"UPDATE faults SET writes = 0, fault_at = {fault_at}, number = {number}")
            job_id = await bench.enqueue(NewJob("a"))
            await ends_as_if_nothing_had_been(bench, job_id)
            async with bench.database.reading() as reading:
                assert await reading.scalar(text("SELECT writes >= fault_at FROM faults")), "it was not at this write"


@pytest.mark.parametrize("number", [1213, 1205])
async def test_a_refused_rescue_and_a_refused_heartbeat_are_made_up_for(bench: JobHarness, number: int) -> None:
    await run(bench.database, *FAULTS)
    dead, held = await bench.enqueue(NewJob("b")), BlockingHandler()
    await bench.by_hand(dead, status="processing")
    fault_at_next = f"UPDATE faults SET writes = 0, fault_at = 1, number = {number}"
    await run(bench.database, fault_at_next)
    async with bench.running({"a": held}, BOUNDS):
        await bench.becomes(dead, JobStatus.QUEUED)
        job_id = await bench.enqueue(NewJob("a"))
        await held.has_begun()
        await run(bench.database, fault_at_next)

        async def two_writes_later() -> bool:
            async with bench.database.reading() as reading:
                return bool(await reading.scalar(text("SELECT writes > 2 FROM faults")))

        await eventually(two_writes_later)
        held.go.set()
        await bench.becomes(job_id, JobStatus.COMPLETED)
    assert await bench.tries(job_id) == [(1, "completed")]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_that_is_lost_at_each_commit_costs_a_try_and_no_step(
    bench: JobHarness, database_url: str, log: FilteringBoundLogger, cut: Cut
) -> None:
    async with open_commit_fault_proxy(database_url) as (url, cutter), Database.open(url, pool_size=7) as cut_off:
        async with bench.running({"a": FunctionHandler(count_on)}, BOUNDS, database=cut_off):
            for cuts in ([cut], [cut] * 2, [cut] * 4):
                cutter.cut_next(*cuts)
                job_id = await bench.enqueue(NewJob("a", max_tries=50))
                await ends_as_if_nothing_had_been(bench, job_id)
        assert cutter.cuts_made == 7


async def test_a_row_that_an_operator_keeps_locked_holds_up_its_own_job_alone(bench: JobHarness) -> None:
    async def nothing(_job: JobContext) -> None:
        pass

    locked, free = await bench.enqueue(NewJob("a")), await bench.enqueue(NewJob("a"))
    async with bench.running({"a": FunctionHandler(nothing)}, WorkerLimits(1, 30.0, 0.05, Backoff(0.05, 0.1))):
        async with bench.database.transaction() as tx:
            await tx.execute(text(f"SELECT id FROM batch_jobs WHERE id = {locked} FOR UPDATE"))
            await bench.becomes(free, JobStatus.COMPLETED)
        await bench.becomes(locked, JobStatus.COMPLETED)


async def test_a_row_that_is_locked_when_its_job_ends_is_written_when_it_is_free(bench: JobHarness) -> None:
    held = BlockingHandler()
    async with bench.running({"a": held}, WorkerLimits(4, 30.0, 0.05, Backoff(0.05, 0.1))):
        locked, free = await bench.enqueue(NewJob("a")), await bench.enqueue(NewJob("a"))
        await held.has_begun(2)
        async with bench.database.transaction() as tx:
            await tx.execute(text(f"SELECT id FROM batch_jobs WHERE id = {locked} FOR UPDATE"))
            held.go.set()
            await bench.becomes(free, JobStatus.COMPLETED)
            assert (await bench.job(locked)).status is JobStatus.PROCESSING
        await bench.becomes(locked, JobStatus.COMPLETED)
    assert await bench.tries(locked) == [(1, "completed")]
