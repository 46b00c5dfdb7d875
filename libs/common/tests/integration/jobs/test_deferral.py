"""Jobs whose dependency is unavailable: not claimed while that is known, deferred when they find out, then run once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import func, select

from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import AttemptOutcome, JobAttempt, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import MAX_DEFERRALS
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import QUICK, BlockingHandler, FunctionHandler, JobHarness


class Switch:
    """A gate that a test opens and closes."""

    def __init__(self) -> None:
        self.changed: list[Callable[[], None]] = []
        self.limit: int | None = 0

    def capacity(self) -> int | None:
        return self.limit

    def open(self, limit: int | None = None) -> None:
        self.limit = limit
        for callback in self.changed:
            callback()


async def test_jobs_behind_a_closed_gate_are_not_touched_and_then_run_once(harness: JobHarness) -> None:
    runs, gate = Counter[int](), Switch()

    async def count(job: JobContext) -> None:
        runs[job.job_id] += 1

    async with harness.database.transaction() as tx:
        ids = [(await job_admin.enqueue(tx, NewJob("gated"))).job_id for _ in range(100)]
    free = await harness.enqueue(NewJob("free"))
    before = await rows(harness)
    handlers = {"gated": FunctionHandler(count), "free": FunctionHandler(count)}
    limits = replace(QUICK, gates={"gated": gate})
    async with harness.running(handlers, limits):
        await harness.wait_for_status(free, JobStatus.COMPLETED)
        assert await rows(harness) == before
        gate.open()

        async def are_completed() -> bool:
            async with harness.database.read_connection() as connection:
                completed = select(func.count()).where(batch_jobs.c.status == JobStatus.COMPLETED)
                return await connection.scalar(completed) == len(ids) + 1

        await eventually(are_completed)
    assert runs == Counter([*ids, free])


async def rows(harness: JobHarness) -> list[object]:
    columns = batch_jobs.c
    query = select(columns.id, columns.status, columns.next_try_at, columns.tries, columns.lease_token)
    async with harness.database.read_connection() as connection:
        found = await connection.execute(query.where(columns.job_type == "gated").order_by(columns.id))
        return [tuple(row) for row in found]


async def test_gate_that_opens_wakes_the_worker(harness: JobHarness) -> None:
    gate, handler = Switch(), BlockingHandler()
    job = await harness.enqueue(NewJob("gated"))
    async with harness.running({"gated": handler}, replace(QUICK, poll_seconds=3600, gates={"gated": gate})) as worker:
        await asyncio.sleep(0)
        gate.open()
        assert worker.wakeup.is_set()
        await handler.wait_until_started()
        handler.release.set()
        await harness.wait_for_status(job, JobStatus.COMPLETED)


async def test_gate_limits_how_many_jobs_run_at_once(harness: JobHarness) -> None:
    gate, handler = Switch(), BlockingHandler()
    gate.limit = 2
    for _ in range(4):
        await harness.enqueue(NewJob("gated"))
    async with harness.running({"gated": handler}, replace(QUICK, gates={"gated": gate})):
        await handler.wait_until_started(2)
        async with harness.database.read_connection() as connection:
            running = select(func.count()).where(batch_jobs.c.status == JobStatus.PROCESSING)
            assert await connection.scalar(running) == 2
        handler.release.set()
        await handler.wait_until_started(4)


async def test_deferred_job_uses_no_attempt_and_keeps_its_cursor(harness: JobHarness) -> None:
    gate, cursors = Switch(), []
    gate.limit = None

    async def work(job: JobContext) -> None:
        cursors.append((job.attempt, job.cursor))
        if len(cursors) == 1:
            async with job.step({"after": 7}, processed=7):
                gate.limit = 0
            raise CircuitBreakerOpen("it is open", retry_after=300)

    job_id = await harness.enqueue(NewJob("gated", max_attempts=1))
    async with harness.running({"gated": FunctionHandler(work)}, replace(QUICK, gates={"gated": gate})):

        async def is_deferred() -> bool:
            return await harness.attempts(job_id) == [(1, "deferred")]

        await eventually(is_deferred)
        deferred = await harness.job(job_id)
        assert (deferred.status, deferred.attempts) == (JobStatus.QUEUED, 0)
        assert deferred.error == "CIRCUIT_BREAKER_OPEN: it is open"
        gate.open()
        await harness.update_row(job_id, next_try_at=deferred.created_at)  # its five seconds are over
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert cursors == [(1, None), (1, {"after": 7})]


async def test_job_that_is_deferred_too_often_fails_with_its_reason(harness: JobHarness) -> None:
    async def unavailable(_job: JobContext) -> None:
        raise CircuitBreakerOpen("it is open", retry_after=300)

    job_id = await harness.enqueue(NewJob("gated"))
    now = (await harness.job(job_id)).created_at
    earlier = [
        JobAttempt(job_id, number, "worker", now, now, AttemptOutcome.DEFERRED, None)
        for number in range(MAX_DEFERRALS - 1)
    ]
    async with harness.database.transaction() as tx:
        await job_attempts.record_attempts(tx, earlier)
    async with harness.running({"gated": FunctionHandler(unavailable)}, QUICK):
        await harness.wait_for_status(job_id, JobStatus.FAILED)  # within five seconds of its last deferral
    outcomes = [outcome for _, outcome in await harness.attempts(job_id)]
    assert (len(outcomes), outcomes[-2:]) == (MAX_DEFERRALS + 1, ["deferred", "failed"])
    assert (await harness.job(job_id)).error == "CIRCUIT_BREAKER_OPEN: it is open"
