"""The life of jobs in a worker, on both databases."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from safevideo_common.database.dialect import now_plus
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.handler import JobContext, PermanentJobError, RetryableJobError
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING, JobCleaner
from safevideo_common.jobs.model import JobStatus, NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import stats as job_stats
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import QUICK, BlockingHandler, FunctionHandler, JobHarness


async def nothing(_job: JobContext) -> None:
    pass


async def test_worker_runs_a_job_and_stores_its_result(harness: JobHarness) -> None:
    async def double(job: JobContext) -> Mapping[str, object]:
        number = job.parameters["number"]
        assert isinstance(number, int)
        return {"double": 2 * number}

    async with harness.running({"double": FunctionHandler(double)}):
        job_id = await harness.enqueue(NewJob("double", {"number": 21}))
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.result, job.progress, job.attempts, job.error) == ({"double": 42}, 100, 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert await harness.attempts(job_id) == [(1, "completed")]


async def test_workers_run_each_of_hundreds_of_jobs_once(harness: JobHarness) -> None:
    ran: list[int] = []

    async def note(job: JobContext) -> None:
        ran.append(job.job_id)

    async with harness.database.transaction() as tx:
        ids = [(await job_admin.enqueue(tx, NewJob("a"))).job_id for _ in range(200)]
    async with harness.running({"a": FunctionHandler(note)}), harness.running({"a": FunctionHandler(note)}):
        await harness.wait_for_status(ids[-1], JobStatus.COMPLETED)

        async def all_done() -> bool:
            async with harness.database.read_connection() as reading:
                done = select(func.count()).where(batch_jobs.c.status == JobStatus.COMPLETED)
                return await reading.scalar(done) == len(ids)

        await eventually(all_done)
    assert sorted(ran) == ids


async def test_failed_attempt_is_retried_at_its_cursor(harness: JobHarness) -> None:
    async def fail_twice(job: JobContext) -> Mapping[str, object]:
        place = 0 if job.cursor is None else job.cursor["place"]
        assert isinstance(place, int)
        async with job.step({"place": place + 1}, processed=place + 1, total=4):
            pass
        if job.attempt < 3:
            raise RetryableJobError("PARTNER_UNAVAILABLE", "the partner does not answer")
        return {"place": place + 1}

    async with harness.running({"a": FunctionHandler(fail_twice)}):
        job_id = await harness.enqueue(NewJob("a"))
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.result, job.cursor, job.attempts, job.processed_items) == ({"place": 3}, {"place": 3}, 3, 3)
    assert await harness.attempts(job_id) == [(1, "retryable"), (2, "retryable"), (3, "completed")]


async def test_job_fails_after_its_last_attempt_with_the_reason(harness: JobHarness) -> None:
    async def fail(_job: JobContext) -> None:
        raise ZeroDivisionError

    async with harness.running({"a": FunctionHandler(fail)}):
        job_id = await harness.enqueue(NewJob("a", max_attempts=2, unique_key="a"))
        job = await harness.wait_for_status(job_id, JobStatus.FAILED)
        assert (job.error, job.attempts) == ("HANDLER_FAILED: the handler raised ZeroDivisionError", 2)
        assert await harness.attempts(job_id) == [(1, "retryable"), (2, "failed")]
        assert await harness.enqueue(NewJob("a", unique_key="a")) != job_id


async def test_permanent_error_fails_the_job_at_once(harness: JobHarness) -> None:
    async def refuse(_job: JobContext) -> None:
        raise PermanentJobError("BAD_PARAMETERS", "the parameters make no sense")

    async with harness.running({"a": FunctionHandler(refuse)}):
        job_id = await harness.enqueue(NewJob("a"))
        job = await harness.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error, job.attempts) == ("BAD_PARAMETERS: the parameters make no sense", 1)


async def test_rejected_result_fails_only_its_own_job(harness: JobHarness) -> None:
    async def answer(job: JobContext) -> Mapping[str, object]:
        return {"value": object()} if job.parameters else {"value": 1}

    bad, good = await harness.enqueue(NewJob("a", {"bad": True})), await harness.enqueue(NewJob("a"))
    async with harness.running({"a": FunctionHandler(answer)}):
        assert (await harness.wait_for_status(good, JobStatus.COMPLETED)).result == {"value": 1}
        job = await harness.wait_for_status(bad, JobStatus.FAILED)
    assert (job.error or "").startswith("RESULT_REFUSED")


async def test_failed_step_commits_neither_work_nor_cursor(harness: JobHarness) -> None:
    async def half(job: JobContext) -> None:
        async with job.step({"place": 1}) as tx:
            await job_admin.enqueue(tx, NewJob("other"))
            raise PermanentJobError("HALF_DONE", "it broke in the middle")

    async with harness.running({"a": FunctionHandler(half)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.FAILED)
    assert job.cursor is None
    async with harness.database.read_connection() as reading:
        assert await reading.scalar(select(func.count()).select_from(batch_jobs)) == 1


async def test_worker_leaves_unknown_types_and_jobs_of_other_services(harness: JobHarness) -> None:
    other = await harness.enqueue(NewJob("other"))
    elsewhere = await harness.enqueue(NewJob("a", runner="another-worker"))
    ours = await harness.enqueue(NewJob("a", runner="test-worker"))
    async with harness.running({"a": FunctionHandler(nothing)}):
        await harness.wait_for_status(ours, JobStatus.COMPLETED)
    assert (await harness.job(other)).status is JobStatus.QUEUED
    assert (await harness.job(elsewhere)).status is JobStatus.QUEUED


async def test_running_job_is_cancelled_at_its_next_checkpoint(harness: JobHarness) -> None:
    blocking = BlockingHandler()
    async with harness.running({"a": blocking}):
        job_id = await harness.enqueue(NewJob("a"))
        await blocking.wait_until_started()
        await harness.cancel(job_id, "by mistake")
        job = await harness.wait_for_status(job_id, JobStatus.CANCELLED)
    assert (job.cancel_reason, job.error) == ("by mistake", None)
    assert await harness.attempts(job_id) == [(1, "cancelled")]


async def test_failed_attempt_with_a_cancel_request_is_not_retried(harness: JobHarness) -> None:
    async def fail_when_cancelled(job: JobContext) -> None:
        await harness.cancel(job.job_id, "enough")
        raise RetryableJobError("X", "y")

    async with harness.running({"a": FunctionHandler(fail_when_cancelled)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.CANCELLED)
    assert job.cancel_reason == "enough"


async def test_drain_returns_jobs_to_the_queue_with_their_cursor(harness: JobHarness) -> None:
    started = asyncio.Event()

    async def step_by_step(job: JobContext) -> None:
        for place in range(10_000):
            async with job.step({"place": place}):
                pass
            started.set()

    async with harness.running({"a": FunctionHandler(step_by_step)}):
        job_id = await harness.enqueue(NewJob("a"))
        await started.wait()
    job = await harness.job(job_id)
    assert (job.status, job.attempts, job.error) == (JobStatus.QUEUED, 0, "INTERRUPTED: its worker shut down")
    assert job.cursor is not None
    assert await harness.attempts(job_id) == [(1, "interrupted")]
    cursors: list[object] = []

    async def look(job: JobContext) -> None:
        cursors.append(job.cursor)

    async with harness.running({"a": FunctionHandler(look)}):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert cursors == [job.cursor]


async def test_drain_cancels_a_job_without_checkpoint_after_the_grace_time(harness: JobHarness) -> None:
    started = asyncio.Event()

    async def wait_for_ever(_job: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    async with harness.running({"a": FunctionHandler(wait_for_ever)}):
        job_id = await harness.enqueue(NewJob("a"))
        await started.wait()
    assert (await harness.job(job_id)).status is JobStatus.QUEUED


async def test_drain_at_any_moment_of_a_claim_keeps_no_job(harness: JobHarness) -> None:
    ids = [await harness.enqueue(NewJob("a")) for _ in range(5)]
    for turn in range(10):
        async with harness.running({"a": BlockingHandler()}):
            for _ in range(turn * 3):
                await asyncio.sleep(0)
        assert {(await harness.job(each)).status for each in ids} == {JobStatus.QUEUED}


async def test_worker_runs_no_more_jobs_than_it_has_slots(harness: JobHarness) -> None:
    blocking = BlockingHandler()
    async with harness.running({"a": blocking}, WorkerLimits(2, 30.0, 0.05, Backoff(0.05, 0.1))):
        ids = [await harness.enqueue(NewJob("a")) for _ in range(3)]
        await blocking.wait_until_started(2)
        assert (await harness.job(ids[2])).status is JobStatus.QUEUED
        blocking.release.set()
        await harness.wait_for_status(ids[2], JobStatus.COMPLETED)


async def test_worker_limits_concurrency_by_type_and_starts_the_next_job_at_once(harness: JobHarness) -> None:
    heavy, light = BlockingHandler(), BlockingHandler()
    limits = WorkerLimits(10, 30.0, 60.0, Backoff(0.05, 0.1), {"heavy": 2})
    ids = [await harness.enqueue(NewJob("heavy", priority=Priority.URGENT)) for _ in range(5)]
    beside = await harness.enqueue(NewJob("light"))
    async with harness.running({"heavy": heavy, "light": light}, limits):
        await light.wait_until_started()
        assert heavy.started == ids[:2]
        heavy.release.set()
        light.release.set()
        for each in (*ids, beside):
            await harness.wait_for_status(each, JobStatus.COMPLETED)
    assert heavy.started == ids


async def order_of_claims(harness: JobHarness, *jobs_waiting: tuple[Priority, str]) -> list[object]:
    """Return the order in which jobs run, one at a time; each has waited for the given minutes already."""
    names: list[object] = []

    async def note(job: JobContext) -> None:
        names.append(job.parameters["name"])

    for priority, waited in jobs_waiting:
        job_id = await harness.enqueue(NewJob("a", {"name": f"{priority} {waited}"}, priority))
        queued = (await harness.job(job_id)).next_try_at
        await harness.update_row(job_id, next_try_at=queued - minutes(int(waited)))
    async with harness.running({"a": FunctionHandler(note)}, WorkerLimits(1, 30.0, 0.05, Backoff(0.05, 0.1))):

        async def all_ran() -> bool:
            return len(names) == len(jobs_waiting)

        await eventually(all_ran)
    return names


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


async def test_urgent_job_goes_first_until_another_has_waited_its_head_start(harness: JobHarness) -> None:
    low, normal, high, urgent = Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.URGENT
    waiting = ((low, "10"), (low, "70"), (normal, "3"), (high, "0"), (urgent, "0"), (urgent, "5"))
    order = ["low 70", "urgent 5", "urgent 0", "high 0", "low 10", "normal 3"]
    assert await order_of_claims(harness, *waiting) == order


async def test_cleaner_deletes_old_finished_jobs(harness: JobHarness) -> None:
    old, young = await harness.enqueue(NewJob("a")), await harness.enqueue(NewJob("a"))
    waiting = await harness.enqueue(NewJob("unknown"))
    async with harness.running({"a": FunctionHandler(nothing), JOB_HOUSEKEEPING: JobCleaner(30)}):
        for job_id in (old, young):
            done = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert done.finished_at is not None
        long_ago = done.finished_at - minutes(31 * 24 * 60)
        for job_id in (old, waiting):
            await harness.update_row(job_id, created_at=long_ago)
        await harness.update_row(old, finished_at=long_ago)
        job = await harness.wait_for_status(await harness.enqueue(NewJob(JOB_HOUSEKEEPING)), JobStatus.COMPLETED)
    assert job.result == {"deleted": 1}
    assert await harness.attempts(old) == []
    assert (await harness.job(young)).status is JobStatus.COMPLETED
    assert (await harness.job(waiting)).status is JobStatus.QUEUED


async def test_depths_count_queued_jobs_by_type_and_priority(harness: JobHarness) -> None:
    for name, priority in (("a", Priority.LOW), ("a", Priority.LOW), ("b", Priority.URGENT)):
        await harness.enqueue(NewJob(name, priority=priority))
    async with harness.database.read_connection() as reading:
        depths = await job_stats.depths(reading)
    assert [(each.job_type, each.priority, each.jobs) for each in depths] == [("a", "low", 2), ("b", "urgent", 1)]
    assert all(0 <= each.oldest_seconds < 30 for each in depths)


@pytest.mark.parametrize("row", ["completed", "failed", "cancelled"])
async def test_finished_job_that_is_reset_by_hand_starts_a_new_run(harness: JobHarness, row: str) -> None:
    seen: list[object] = []

    async def note(job: JobContext) -> None:
        seen.append((job.attempt, job.cursor))

    job_id = await harness.enqueue(NewJob("a", unique_key="a"))
    ended = {"status": row, "error": "X: y", "tries": 5, "cursor": {"place": 1}, "active_key": None, "progress": 50}
    async with harness.database.transaction() as tx:
        asked = await tx.scalar(select(now_plus()))
    await harness.update_row(job_id, **ended, cancel_requested_at=asked, cancel_reason="long ago")
    await harness.reset_by_hand(job_id)
    async with harness.running({"a": FunctionHandler(note)}, QUICK):
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert seen == [(1, None)]
    assert (job.attempts, job.progress, job.cancel_requested_at, job.cancel_reason) == (1, 100, None, None)


async def test_job_in_backoff_that_is_reset_by_hand_runs_at_once(harness: JobHarness) -> None:
    async def fail_first(job: JobContext) -> None:
        if not resets:
            raise RetryableJobError("X", "y")

    resets: list[int] = []
    async with harness.running({"a": FunctionHandler(fail_first)}, WorkerLimits(10, 30.0, 0.05, Backoff(3600, 3600))):
        job_id = await harness.enqueue(NewJob("a"))

        async def is_in_backoff() -> bool:
            return (await harness.job(job_id)).error == "X: y"

        await eventually(is_in_backoff)
        resets.append(job_id)
        await harness.reset_by_hand(job_id)
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)


async def test_running_job_that_is_reset_by_hand_runs_again_and_its_first_run_writes_nothing(
    harness: JobHarness,
) -> None:
    runs: list[JobContext] = []
    may_end = asyncio.Event()

    async def first_waits(job: JobContext) -> Mapping[str, object]:
        runs.append(job)
        if len(runs) == 1:
            await may_end.wait()
        return {"run": len(runs)}

    async with (
        harness.running({"a": FunctionHandler(first_waits)}),
        harness.running({"a": FunctionHandler(first_waits)}),
    ):
        job_id = await harness.enqueue(NewJob("a"))

        async def has_started() -> bool:
            return bool(runs)

        await eventually(has_started)
        await harness.reset_by_hand(job_id)
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert job.result == {"run": 2}
        may_end.set()
    assert await harness.job(job_id) == job
    assert await harness.attempts(job_id) == [(1, "reset"), (1, "completed")]


async def test_reset_job_whose_key_is_taken_fails_and_the_other_continues(harness: JobHarness) -> None:
    blocking = BlockingHandler()
    async with harness.running({"a": blocking}):
        first = await harness.enqueue(NewJob("a", unique_key="k"))
        await harness.update_row(first, status="completed", active_key=None)
        second = await harness.enqueue(NewJob("a", unique_key="k"))

        async def second_runs() -> bool:
            return second in blocking.started

        await eventually(second_runs)
        await harness.reset_by_hand(first)
        assert ((await harness.wait_for_status(first, JobStatus.FAILED)).error or "").startswith("UNIQUE_TAKEN")
        blocking.release.set()
        await harness.wait_for_status(second, JobStatus.COMPLETED)
