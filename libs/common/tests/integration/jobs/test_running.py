"""What becomes of a job, on both engines."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from safevideo_common.database.dialect import now_plus
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.handler import JobContext, PermanentJobError, RetryableJobError
from safevideo_common.jobs.maintenance import JOB_HOUSEKEEPING, JobCleaner
from safevideo_common.jobs.model import JobStatus, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import stats as job_stats
from safevideo_common.jobs.store.admin import NewJob
from safevideo_common.jobs.worker import WorkerLimits
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import QUICK, BlockingHandler, FunctionHandler, JobHarness


async def nothing(_job: JobContext) -> None:
    pass


async def test_a_job_is_run_and_its_result_kept(bench: JobHarness) -> None:
    async def double(job: JobContext) -> Mapping[str, object]:
        number = job.parameters["number"]
        assert isinstance(number, int)
        return {"double": 2 * number}

    async with bench.running({"double": FunctionHandler(double)}):
        job_id = await bench.enqueue(NewJob("double", {"number": 21}))
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert (job.result, job.progress, job.tries, job.error) == ({"double": 42}, 100, 1, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert await bench.tries(job_id) == [(1, "completed")]


async def test_hundreds_of_jobs_are_each_run_once(bench: JobHarness) -> None:
    ran: list[int] = []

    async def note(job: JobContext) -> None:
        ran.append(job.job_id)

    async with bench.database.transaction() as tx:
        ids = [(await job_admin.enqueue(tx, NewJob("a"))).job_id for _ in range(200)]
    async with bench.running({"a": FunctionHandler(note)}), bench.running({"a": FunctionHandler(note)}):
        await bench.becomes(ids[-1], JobStatus.COMPLETED)

        async def all_done() -> bool:
            async with bench.database.reading() as reading:
                done = select(func.count()).where(batch_jobs.c.status == JobStatus.COMPLETED)
                return await reading.scalar(done) == len(ids)

        await eventually(all_done)
    assert sorted(ran) == ids


async def test_what_fails_is_tried_again_and_goes_on_where_it_was(bench: JobHarness) -> None:
    async def fail_twice(job: JobContext) -> Mapping[str, object]:
        place = 0 if job.cursor is None else job.cursor["place"]
        assert isinstance(place, int)
        async with job.step({"place": place + 1}, processed=place + 1, total=4):
            pass
        if job.tries < 3:
            raise RetryableJobError("PARTNER_AWAY", "the partner does not answer")
        return {"place": place + 1}

    async with bench.running({"a": FunctionHandler(fail_twice)}):
        job_id = await bench.enqueue(NewJob("a"))
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert (job.result, job.cursor, job.tries, job.processed_items) == ({"place": 3}, {"place": 3}, 3, 3)
    assert await bench.tries(job_id) == [(1, "put_off"), (2, "put_off"), (3, "completed")]


async def test_after_its_last_try_a_job_has_failed_with_its_reason(bench: JobHarness) -> None:
    async def fail(_job: JobContext) -> None:
        raise ZeroDivisionError

    async with bench.running({"a": FunctionHandler(fail)}):
        job_id = await bench.enqueue(NewJob("a", max_tries=2, unique_key="a"))
        job = await bench.becomes(job_id, JobStatus.FAILED)
        assert (job.error, job.tries) == ("HANDLER_FAILED: the handler raised ZeroDivisionError", 2)
        assert await bench.tries(job_id) == [(1, "put_off"), (2, "failed")]
        assert await bench.enqueue(NewJob("a", unique_key="a")) != job_id


async def test_what_cannot_go_better_fails_at_once(bench: JobHarness) -> None:
    async def refuse(_job: JobContext) -> None:
        raise PermanentJobError("BAD_PARAMETERS", "the parameters make no sense")

    async with bench.running({"a": FunctionHandler(refuse)}):
        job_id = await bench.enqueue(NewJob("a"))
        job = await bench.becomes(job_id, JobStatus.FAILED)
    assert (job.error, job.tries) == ("BAD_PARAMETERS: the parameters make no sense", 1)


async def test_a_result_that_the_database_refuses_fails_its_job_and_no_other(bench: JobHarness) -> None:
    async def answer(job: JobContext) -> Mapping[str, object]:
        return {"value": object()} if job.parameters else {"value": 1}

    bad, good = await bench.enqueue(NewJob("a", {"bad": True})), await bench.enqueue(NewJob("a"))
    async with bench.running({"a": FunctionHandler(answer)}):
        assert (await bench.becomes(good, JobStatus.COMPLETED)).result == {"value": 1}
        job = await bench.becomes(bad, JobStatus.FAILED)
    assert (job.error or "").startswith("RESULT_REFUSED")


async def test_a_step_that_fails_saves_neither_its_work_nor_its_cursor(bench: JobHarness) -> None:
    async def half(job: JobContext) -> None:
        async with job.step({"place": 1}) as tx:
            await job_admin.enqueue(tx, NewJob("other"))
            raise PermanentJobError("HALF_DONE", "it broke in the middle")

    async with bench.running({"a": FunctionHandler(half)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.FAILED)
    assert job.cursor is None
    async with bench.database.reading() as reading:
        assert await reading.scalar(select(func.count()).select_from(batch_jobs)) == 1


async def test_types_that_a_worker_does_not_know_and_jobs_of_other_services_are_left(bench: JobHarness) -> None:
    other = await bench.enqueue(NewJob("other"))
    elsewhere = await bench.enqueue(NewJob("a", runner="another-worker"))
    ours = await bench.enqueue(NewJob("a", runner="test-worker"))
    async with bench.running({"a": FunctionHandler(nothing)}):
        await bench.becomes(ours, JobStatus.COMPLETED)
    assert (await bench.job(other)).status is JobStatus.QUEUED
    assert (await bench.job(elsewhere)).status is JobStatus.QUEUED


async def test_a_running_job_is_cancelled_at_its_next_checkpoint(bench: JobHarness) -> None:
    held = BlockingHandler()
    async with bench.running({"a": held}):
        job_id = await bench.enqueue(NewJob("a"))
        await held.has_begun()
        async with bench.database.transaction() as tx:
            await job_admin.cancel(tx, job_id, "by mistake")
        job = await bench.becomes(job_id, JobStatus.CANCELLED)
    assert (job.cancel_reason, job.error) == ("by mistake", None)
    assert await bench.tries(job_id) == [(1, "cancelled")]


async def test_what_was_to_be_tried_again_is_cancelled_when_somebody_asks_meanwhile(bench: JobHarness) -> None:
    async def fail_when_cancelled(job: JobContext) -> None:
        async with bench.database.transaction() as tx:
            await job_admin.cancel(tx, job.job_id, "enough")
        raise RetryableJobError("X", "y")

    async with bench.running({"a": FunctionHandler(fail_when_cancelled)}):
        job = await bench.becomes(await bench.enqueue(NewJob("a")), JobStatus.CANCELLED)
    assert job.cancel_reason == "enough"


async def test_a_drained_worker_gives_its_jobs_back_with_what_they_saved(bench: JobHarness) -> None:
    begun = asyncio.Event()

    async def step_by_step(job: JobContext) -> None:
        for place in range(10_000):
            async with job.step({"place": place}):
                begun.set()

    async with bench.running({"a": FunctionHandler(step_by_step)}):
        job_id = await bench.enqueue(NewJob("a"))
        await begun.wait()
    job = await bench.job(job_id)
    assert (job.status, job.tries, job.error) == (JobStatus.QUEUED, 0, "DRAINED: its worker was told to stop")
    assert job.cursor is not None
    assert await bench.tries(job_id) == [(1, "drained")]
    cursors: list[object] = []

    async def look(job: JobContext) -> None:
        cursors.append(job.cursor)

    async with bench.running({"a": FunctionHandler(look)}):
        await bench.becomes(job_id, JobStatus.COMPLETED)
    assert cursors == [job.cursor]


async def test_a_job_without_a_checkpoint_is_cut_off_when_the_grace_time_is_over(bench: JobHarness) -> None:
    begun = asyncio.Event()

    async def wait_for_ever(_job: JobContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with bench.running({"a": FunctionHandler(wait_for_ever)}):
        job_id = await bench.enqueue(NewJob("a"))
        await begun.wait()
    assert (await bench.job(job_id)).status is JobStatus.QUEUED


async def test_a_worker_that_is_drained_at_whatever_moment_of_a_claim_keeps_no_job(bench: JobHarness) -> None:
    ids = [await bench.enqueue(NewJob("a")) for _ in range(5)]
    for turn in range(10):
        async with bench.running({"a": BlockingHandler()}):
            for _ in range(turn * 3):
                await asyncio.sleep(0)
        assert {(await bench.job(each)).status for each in ids} == {JobStatus.QUEUED}


async def test_no_more_jobs_are_in_hand_than_there_are_slots(bench: JobHarness) -> None:
    held = BlockingHandler()
    async with bench.running({"a": held}, WorkerLimits(2, 30.0, 0.05, Backoff(0.05, 0.1))):
        ids = [await bench.enqueue(NewJob("a")) for _ in range(3)]
        await held.has_begun(2)
        assert (await bench.job(ids[2])).status is JobStatus.QUEUED
        held.go.set()
        await bench.becomes(ids[2], JobStatus.COMPLETED)


async def test_of_a_type_with_a_bound_no_more_are_in_hand_and_the_next_one_follows_at_once(bench: JobHarness) -> None:
    heavy, light = BlockingHandler(), BlockingHandler()
    bounds = WorkerLimits(10, 30.0, 60.0, Backoff(0.05, 0.1), {"heavy": 2})
    ids = [await bench.enqueue(NewJob("heavy", priority=Priority.URGENT)) for _ in range(5)]
    beside = await bench.enqueue(NewJob("light"))
    async with bench.running({"heavy": heavy, "light": light}, bounds):
        await light.has_begun()
        assert heavy.begun == ids[:2]
        heavy.go.set()
        light.go.set()
        for each in (*ids, beside):
            await bench.becomes(each, JobStatus.COMPLETED)
    assert heavy.begun == ids


async def order_of_claims(bench: JobHarness, *jobs_waiting: tuple[Priority, str]) -> list[object]:
    """Which names are run in which order, one at a time; each has waited for so long already."""
    names: list[object] = []

    async def note(job: JobContext) -> None:
        names.append(job.parameters["name"])

    for priority, waited in jobs_waiting:
        job_id = await bench.enqueue(NewJob("a", {"name": f"{priority} {waited}"}, priority))
        queued = (await bench.job(job_id)).next_try_at
        await bench.by_hand(job_id, next_try_at=queued - minutes(int(waited)))
    async with bench.running({"a": FunctionHandler(note)}, WorkerLimits(1, 30.0, 0.05, Backoff(0.05, 0.1))):

        async def all_ran() -> bool:
            return len(names) == len(jobs_waiting)

        await eventually(all_ran)
    return names


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


async def test_the_more_urgent_goes_first_until_the_other_has_waited_its_head_start(bench: JobHarness) -> None:
    low, normal, high, urgent = Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.URGENT
    waiting = ((low, "10"), (low, "70"), (normal, "3"), (high, "0"), (urgent, "0"), (urgent, "5"))
    order = ["low 70", "urgent 5", "urgent 0", "high 0", "low 10", "normal 3"]
    assert await order_of_claims(bench, *waiting) == order


async def test_finished_jobs_leave_the_table_when_they_are_old(bench: JobHarness) -> None:
    old, young = await bench.enqueue(NewJob("a")), await bench.enqueue(NewJob("a"))
    waiting = await bench.enqueue(NewJob("unknown"))
    async with bench.running({"a": FunctionHandler(nothing), JOB_HOUSEKEEPING: JobCleaner(30)}):
        for job_id in (old, young):
            done = await bench.becomes(job_id, JobStatus.COMPLETED)
        assert done.finished_at is not None
        long_ago = done.finished_at - minutes(31 * 24 * 60)
        for job_id in (old, waiting):
            await bench.by_hand(job_id, created_at=long_ago)
        await bench.by_hand(old, finished_at=long_ago)
        job = await bench.becomes(await bench.enqueue(NewJob(JOB_HOUSEKEEPING)), JobStatus.COMPLETED)
    assert job.result == {"deleted": 1}
    assert await bench.tries(old) == []
    assert (await bench.job(young)).status is JobStatus.COMPLETED
    assert (await bench.job(waiting)).status is JobStatus.QUEUED


async def test_what_waits_is_counted_by_type_and_priority(bench: JobHarness) -> None:
    for name, priority in (("a", Priority.LOW), ("a", Priority.LOW), ("b", Priority.URGENT)):
        await bench.enqueue(NewJob(name, priority=priority))
    async with bench.database.reading() as reading:
        depths = await job_stats.depths(reading)
    assert [(each.job_type, each.priority, each.jobs) for each in depths] == [("a", "low", 2), ("b", "urgent", 1)]
    assert all(0 <= each.oldest_seconds < 30 for each in depths)


@pytest.mark.parametrize("row", ["completed", "failed", "cancelled"])
async def test_a_finished_job_that_is_reset_by_hand_runs_anew(bench: JobHarness, row: str) -> None:
    seen: list[object] = []

    async def note(job: JobContext) -> None:
        seen.append((job.tries, job.cursor))

    job_id = await bench.enqueue(NewJob("a", unique_key="a"))
    ended = {"status": row, "error": "X: y", "tries": 5, "cursor": {"place": 1}, "active_key": None, "progress": 50}
    async with bench.database.transaction() as tx:
        asked = await tx.scalar(select(now_plus()))
    await bench.by_hand(job_id, **ended, cancel_requested_at=asked, cancel_reason="long ago")
    await bench.reset_by_hand(job_id)
    async with bench.running({"a": FunctionHandler(note)}, QUICK):
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
    assert seen == [(1, None)]
    assert (job.tries, job.progress, job.cancel_requested_at, job.cancel_reason) == (1, 100, None, None)


async def test_a_job_in_backoff_that_is_reset_by_hand_runs_at_once(bench: JobHarness) -> None:
    async def fail_first(job: JobContext) -> None:
        if not resets:
            raise RetryableJobError("X", "y")

    resets: list[int] = []
    async with bench.running({"a": FunctionHandler(fail_first)}, WorkerLimits(10, 30.0, 0.05, Backoff(3600, 3600))):
        job_id = await bench.enqueue(NewJob("a"))

        async def is_put_off() -> bool:
            return (await bench.job(job_id)).error == "X: y"

        await eventually(is_put_off)
        resets.append(job_id)
        await bench.reset_by_hand(job_id)
        await bench.becomes(job_id, JobStatus.COMPLETED)


async def test_a_running_job_that_is_reset_by_hand_runs_again_and_the_first_run_writes_nothing(
    bench: JobHarness,
) -> None:
    runs: list[JobContext] = []
    may_end = asyncio.Event()

    async def first_waits(job: JobContext) -> Mapping[str, object]:
        runs.append(job)
        if len(runs) == 1:
            await may_end.wait()
        return {"run": len(runs)}

    async with bench.running({"a": FunctionHandler(first_waits)}), bench.running({"a": FunctionHandler(first_waits)}):
        job_id = await bench.enqueue(NewJob("a"))

        async def has_begun() -> bool:
            return bool(runs)

        await eventually(has_begun)
        await bench.reset_by_hand(job_id)
        job = await bench.becomes(job_id, JobStatus.COMPLETED)
        assert job.result == {"run": 2}
        may_end.set()
    assert await bench.job(job_id) == job
    assert await bench.tries(job_id) == [(1, "reset"), (1, "completed")]


async def test_a_reset_job_whose_key_another_has_fails_and_the_other_goes_on(bench: JobHarness) -> None:
    held = BlockingHandler()
    async with bench.running({"a": held}):
        first = await bench.enqueue(NewJob("a", unique_key="k"))
        await bench.by_hand(first, status="completed", active_key=None)
        second = await bench.enqueue(NewJob("a", unique_key="k"))

        async def second_runs() -> bool:
            return second in held.begun

        await eventually(second_runs)
        await bench.reset_by_hand(first)
        assert ((await bench.becomes(first, JobStatus.FAILED)).error or "").startswith("UNIQUE_TAKEN")
        held.go.set()
        await bench.becomes(second, JobStatus.COMPLETED)
