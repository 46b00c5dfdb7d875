"""Who holds a job when several are at it: claims, leases, endings and rescues by themselves, on both engines."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import product

from sqlalchemy import func, select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_job_tries
from safevideo_common.errors import DatabaseConflict
from safevideo_common.jobs.model import AttemptOutcome, JobStatus, matches_runner
from safevideo_common.jobs.store import (
    admin as job_admin,
)
from safevideo_common.jobs.store import (
    attempts as job_attempts,
)
from safevideo_common.jobs.store.admin import NewJob
from safevideo_common.jobs.store.attempts import CompletedJob, JobCompletion, JobProgress
from safevideo_common.jobs.store.queue import ClaimedJob, Claimer, DueJobs
from safevideo_testkit.harness.jobs import JobHarness

DELAYS = [0.0]
LONG = 60.0
DUE = DueJobs(("a",), "test-worker")
COMPLETED = AttemptOutcome.COMPLETED


async def claim(database: Database, lease_seconds: float = LONG, limit: int = 1000) -> list[ClaimedJob]:
    async with database.reading() as reading:
        found = [each.job_id for each in await DUE.find(reading, limit)]
    async with database.transaction() as tx:
        return await Claimer("test-worker-1", lease_seconds).take(tx, found)


async def claim_one(bench: JobHarness, lease_seconds: float = LONG) -> ClaimedJob:
    await bench.enqueue(NewJob("a"))
    (job,) = await claim(bench.database, lease_seconds)
    return job


async def rescue(database: Database) -> list[CompletedJob]:
    async with database.transaction() as tx:
        return await job_attempts.rescue(tx, DELAYS)


async def end(database: Database, *endings: JobCompletion) -> tuple[list[CompletedJob], list[JobCompletion]]:
    async with database.transaction() as tx:
        return await job_attempts.complete(tx, endings)


async def patiently_end(database: Database, ending: JobCompletion) -> list[CompletedJob]:
    """As the worker does: again while somebody has the row, or was quicker."""
    while True:
        try:
            ended, again = await end(database, ending)
        except DatabaseConflict:
            continue
        if not again:
            return ended


async def tries_in_all(database: Database) -> int:
    async with database.reading() as reading:
        return await reading.scalar(select(func.count()).select_from(batch_job_tries)) or 0


async def test_what_may_run_is_what_the_rule_says_whatever_else_the_row_says(bench: JobHarness) -> None:
    may: set[int] = set()
    for status, error, hours in product(JobStatus, (None, "X: y"), (-1, 1)):
        job_id = await bench.enqueue(NewJob("a"))
        now = (await bench.job(job_id)).created_at
        odd = {"tries": 99, "lease_token": "t", "lease_until": now + timedelta(hours=1), "worker": "somebody"}
        next_try_at = now + timedelta(hours=hours)
        await bench.by_hand(job_id, status=status.value, error=error, next_try_at=next_try_at, **odd)
        may |= {job_id} if matches_runner(status, error, next_try_at, now) else set()
    async with bench.database.reading() as reading:
        found = [each.job_id for each in (*await DUE.find(reading, 100), *await DUE.find_reset(reading))]
    async with bench.database.transaction() as tx:
        taken = await Claimer("test-worker-1", LONG).take(tx, found)
    assert {job.job_id for job in taken} == set(found) == may


async def test_claims_at_once_never_take_one_job_twice(bench: JobHarness) -> None:
    async with bench.database.transaction() as tx:
        ids = [(await job_admin.enqueue(tx, NewJob("a"))).job_id for _ in range(100)]
    taken: list[int] = []
    while len(taken) < len(ids):
        for claimed in await asyncio.gather(*(claim(bench.database, limit=20) for _ in range(4))):
            taken += [job.job_id for job in claimed]
    assert sorted(taken) == ids


async def test_a_zombie_can_save_no_cursor_keep_no_lease_and_end_nothing(bench: JobHarness) -> None:
    zombie = await claim_one(bench, lease_seconds=0)
    assert [each.lease for each in await rescue(bench.database)] == [zombie.lease]
    (living,) = await claim(bench.database)
    before = await bench.job(zombie.job_id)
    async with bench.database.transaction() as tx:
        assert await job_attempts.advance(tx, zombie.lease, LONG, JobProgress({"place": 9})) is None
        beat = await job_attempts.renew(tx, {zombie.lease, living.lease}, LONG)
        assert (beat.lost, beat.asked_to_stop) == ({zombie.lease}, set())
        assert await job_attempts.is_cancelled(tx, zombie.lease) is None
    assert await end(bench.database, JobCompletion(zombie.lease, COMPLETED, result={"by": "zombie"})) == ([], [])
    after = await bench.job(zombie.job_id)
    assert (after.cursor, after.status, after.result) == (before.cursor, JobStatus.PROCESSING, None)
    (ended,), _ = await end(bench.database, JobCompletion(living.lease, COMPLETED, result={"by": "living"}))
    assert ended.lease == living.lease


async def test_a_reset_by_hand_takes_the_lease_of_a_running_job_at_once(bench: JobHarness) -> None:
    running = await claim_one(bench)
    await bench.reset_by_hand(running.job_id)
    assert await end(bench.database, JobCompletion(running.lease, COMPLETED)) == ([], [])
    async with bench.database.transaction() as tx:
        assert await job_attempts.advance(tx, running.lease, LONG, JobProgress()) is None
    (again,) = await claim(bench.database)
    assert (again.job_id, again.tries) == (running.job_id, 1)


async def test_a_try_that_lost_its_lease_by_a_reset_is_written_down_once_when_the_job_is_claimed(
    bench: JobHarness,
) -> None:
    lost = await claim_one(bench)
    await bench.reset_by_hand(lost.job_id)
    assert await bench.tries(lost.job_id) == []
    (again,) = await claim(bench.database)
    await end(bench.database, JobCompletion(again.lease, AttemptOutcome.PUT_OFF, "X: y"))
    await bench.reset_by_hand(lost.job_id)
    (last,) = await claim(bench.database)
    await end(bench.database, JobCompletion(last.lease, COMPLETED))
    assert await bench.tries(lost.job_id) == [(1, "reset"), (1, "put_off"), (1, "completed")]
    async with bench.database.reading() as reading:
        first, *_ = await job_admin.attempts_of(reading, lost.job_id)
    assert (first.worker, first.error) == (
        "test-worker-1", "RESET_BY_HAND: the row was changed by hand while its worker had the job",
    )  # fmt: skip
    assert first.started_at is not None
    assert first.started_at <= first.ended_at


async def test_a_job_that_was_ended_by_hand_tells_of_the_lost_try_once_it_runs_again(bench: JobHarness) -> None:
    lost = await claim_one(bench)
    await bench.by_hand(lost.job_id, status="failed", error="X: by hand")
    async with bench.database.transaction() as tx:
        await job_admin.retry(tx, lost.job_id)
    (again,) = await claim(bench.database)
    await end(bench.database, JobCompletion(again.lease, COMPLETED))
    assert await bench.tries(lost.job_id) == [(1, "reset"), (1, "completed")]


async def test_endings_of_one_job_under_two_leases_do_not_meet(bench: JobHarness) -> None:
    former = await claim_one(bench)
    await bench.reset_by_hand(former.job_id)
    (later,) = await claim(bench.database)
    both = (JobCompletion(later.lease, COMPLETED, result={"by": "later"}), JobCompletion(former.lease, COMPLETED))
    ended, again = await end(bench.database, *both)
    assert ([each.lease for each in ended], again) == ([later.lease], [])
    assert (await bench.job(later.job_id)).result == {"by": "later"}


async def test_of_several_rescuers_at_once_each_job_has_one(bench: JobHarness) -> None:
    async with bench.database.transaction() as tx:
        for _ in range(150):
            await job_admin.enqueue(tx, NewJob("a"))
    leases = {job.lease for job in await claim(bench.database, lease_seconds=0)}
    rescued: Counter[object] = Counter()
    while len(rescued) < len(leases):
        for some in await asyncio.gather(*(rescue(bench.database) for _ in range(4))):
            rescued.update(each.lease for each in some)
    assert rescued == Counter(leases)
    assert await tries_in_all(bench.database) == len(leases)


async def test_a_rescuer_and_a_completion_at_the_same_moment_one_hundred_times(bench: JobHarness) -> None:
    for turn in range(100):
        job = await claim_one(bench, lease_seconds=0)
        both = (
            rescue(bench.database),
            patiently_end(bench.database, JobCompletion(job.lease, COMPLETED, result={"is": "done"})),
        )
        rescued, ended = await asyncio.gather(*(both if turn % 2 else both[::-1]))
        assert len(rescued) + len(ended) == 1
        row = await bench.job(job.job_id)
        if row.status is JobStatus.COMPLETED:
            assert (row.result, await bench.tries(job.job_id)) == ({"is": "done"}, [(1, "completed")])
        else:
            assert (row.status, row.result, row.finished_at) == (JobStatus.QUEUED, None, None)
            assert await bench.tries(job.job_id) == [(1, "lease_lost")]
            await bench.by_hand(job.job_id, status="cancelled")


async def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(bench: JobHarness) -> None:
    job = await claim_one(bench, lease_seconds=0)
    async with bench.database.transaction() as tx:
        await job_admin.cancel(tx, job.job_id, "enough")
    (rescued,) = await rescue(bench.database)
    assert rescued.status is JobStatus.CANCELLED


async def test_a_job_that_was_set_to_processing_by_hand_is_rescued_too(bench: JobHarness) -> None:
    job_id = await bench.enqueue(NewJob("a"))
    await bench.by_hand(job_id, status="processing")
    (rescued,) = await rescue(bench.database)
    assert rescued.status is JobStatus.QUEUED


async def test_a_step_that_is_rolled_back_leaves_the_lease_and_the_cursor_as_they_were(bench: JobHarness) -> None:
    job = await claim_one(bench)
    before = await bench.job(job.job_id)
    try:
        async with bench.database.transaction() as tx:
            assert await job_attempts.advance(tx, job.lease, 2 * LONG, JobProgress({"place": 1}, 1, 2)) is False
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert await bench.job(job.job_id) == before
