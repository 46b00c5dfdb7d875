"""Claims, leases, completions and rescues of one job by several workers at once, on both databases."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.errors import DatabaseConflict
from safevideo_common.jobs.model import (
    AttemptOutcome,
    ClaimedJob,
    CompletedJob,
    JobCompletion,
    JobProgress,
    JobStatus,
    Lease,
    NewJob,
)
from safevideo_common.jobs.store import (
    admin as job_admin,
)
from safevideo_common.jobs.store import (
    attempts as job_attempts,
)
from safevideo_common.jobs.store.queue import Claimer, DueJobs
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.mutations import Mutation, assert_detected

DELAYS = [0.0]
LONG = 60.0
DUE = DueJobs(("a",), "test-worker")
COMPLETED = AttemptOutcome.COMPLETED


async def claim(database: Database, lease_seconds: float = LONG, limit: int = 1000) -> list[ClaimedJob]:
    async with database.read_connection() as reading:
        found = [each.job_id for each in await DUE.find(reading, limit)]
    async with database.transaction() as tx:
        return await Claimer("test-worker-1", lease_seconds).claim(tx, found)


async def claim_one(harness: JobHarness, lease_seconds: float = LONG) -> ClaimedJob:
    await harness.enqueue(NewJob("a"))
    (job,) = await claim(harness.database, lease_seconds)
    return job


async def rescue(database: Database) -> list[CompletedJob]:
    async with database.transaction() as tx:
        return await job_attempts.rescue(tx, DELAYS)


async def complete(database: Database, *completions: JobCompletion) -> tuple[list[CompletedJob], list[JobCompletion]]:
    async with database.transaction() as tx:
        return await job_attempts.complete(tx, completions)


async def complete_with_retries(database: Database, completion: JobCompletion) -> list[CompletedJob]:
    """Complete as the worker does: again while another transaction has the row or was faster."""
    while True:
        try:
            written, again = await complete(database, completion)
        except DatabaseConflict:
            continue
        if not again:
            return written


async def count_attempts(database: Database) -> int:
    async with database.read_connection() as reading:
        return await reading.scalar(select(func.count()).select_from(batch_job_tries)) or 0


async def test_due_jobs_depend_only_on_status_error_and_time(harness: JobHarness) -> None:
    due: set[int] = set()
    for status, error, hours in product(JobStatus, (None, "X: y"), (-1, 1)):
        job_id = await harness.enqueue(NewJob("a"))
        now = (await harness.job(job_id)).created_at
        odd = {"tries": 99, "lease_token": "t", "lease_until": now + timedelta(hours=1), "worker": "somebody"}
        next_try_at = now + timedelta(hours=hours)
        await harness.update_row(job_id, status=status.value, error=error, next_try_at=next_try_at, **odd)
        due |= {job_id} if status is JobStatus.QUEUED and (error is None or next_try_at <= now) else set()
    async with harness.database.read_connection() as reading:
        found = [each.job_id for each in (*await DUE.find(reading, 100), *await DUE.find_reset(reading))]
    async with harness.database.transaction() as tx:
        claimed = await Claimer("test-worker-1", LONG).claim(tx, found)
    assert {job.job_id for job in claimed} == set(found) == due


async def test_concurrent_claims_never_get_the_same_job(harness: JobHarness) -> None:
    async with harness.database.transaction() as tx:
        ids = [(await job_admin.enqueue(tx, NewJob("a"))).job_id for _ in range(100)]
    taken: list[int] = []
    while len(taken) < len(ids):
        for claimed in await asyncio.gather(*(claim(harness.database, limit=20) for _ in range(4))):
            taken += [job.job_id for job in claimed]
    assert sorted(taken) == ids


async def test_zombie_cannot_save_renew_or_complete(harness: JobHarness) -> None:
    zombie = await claim_one(harness, lease_seconds=0)
    assert [each.lease for each in await rescue(harness.database)] == [zombie.lease]
    (living,) = await claim(harness.database)
    before = await harness.job(zombie.job_id)
    async with harness.database.transaction() as tx:
        assert await job_attempts.save_progress(tx, zombie.lease, LONG, JobProgress({"place": 9})) is None
        renewal = await job_attempts.renew(tx, {zombie.lease, living.lease}, LONG)
        assert (renewal.lost_leases, renewal.cancelled_leases) == ({zombie.lease}, set())
        assert await job_attempts.is_cancel_requested(tx, zombie.lease) is None
    assert await complete(harness.database, JobCompletion(zombie.lease, COMPLETED, result={"by": "zombie"})) == ([], [])
    after = await harness.job(zombie.job_id)
    assert (after.cursor, after.status, after.result) == (before.cursor, JobStatus.PROCESSING, None)
    (written,), _ = await complete(harness.database, JobCompletion(living.lease, COMPLETED, result={"by": "living"}))
    assert written.lease == living.lease


async def test_reset_by_hand_revokes_the_lease_at_once(harness: JobHarness) -> None:
    running = await claim_one(harness)
    await harness.reset_by_hand(running.job_id)
    assert await complete(harness.database, JobCompletion(running.lease, COMPLETED)) == ([], [])
    async with harness.database.transaction() as tx:
        assert await job_attempts.save_progress(tx, running.lease, LONG, JobProgress()) is None
    (again,) = await claim(harness.database)
    assert (again.job_id, again.attempt) == (running.job_id, 1)


async def test_claim_records_an_attempt_that_a_reset_ended_once(
    harness: JobHarness,
) -> None:
    lost = await claim_one(harness)
    await harness.reset_by_hand(lost.job_id)
    assert await harness.attempts(lost.job_id) == []
    (again,) = await claim(harness.database)
    await complete(harness.database, JobCompletion(again.lease, AttemptOutcome.RETRYABLE, "X: y"))
    await harness.reset_by_hand(lost.job_id)
    (last,) = await claim(harness.database)
    await complete(harness.database, JobCompletion(last.lease, COMPLETED))
    assert await harness.attempts(lost.job_id) == [(1, "reset"), (1, "retryable"), (1, "completed")]
    async with harness.database.read_connection() as reading:
        first, *_ = await job_attempts.attempts_of(reading, lost.job_id)
    assert (first.worker, first.error) == (
        "test-worker-1", "RESET_BY_HAND: the row was changed by hand while its worker had the job",
    )  # fmt: skip
    assert first.started_at is not None
    assert first.started_at <= first.ended_at


async def test_claim_records_an_attempt_of_a_job_that_was_ended_by_hand(harness: JobHarness) -> None:
    lost = await claim_one(harness)
    await harness.update_row(lost.job_id, status="failed", error="X: by hand")
    async with harness.database.transaction() as tx:
        await job_admin.retry(tx, lost.job_id)
    (again,) = await claim(harness.database)
    await complete(harness.database, JobCompletion(again.lease, COMPLETED))
    assert await harness.attempts(lost.job_id) == [(1, "reset"), (1, "completed")]


async def test_complete_writes_only_the_valid_one_of_two_leases(harness: JobHarness) -> None:
    former = await claim_one(harness)
    await harness.reset_by_hand(former.job_id)
    (later,) = await claim(harness.database)
    both = (JobCompletion(later.lease, COMPLETED, result={"by": "later"}), JobCompletion(former.lease, COMPLETED))
    written, again = await complete(harness.database, *both)
    assert ([each.lease for each in written], again) == ([later.lease], [])
    assert (await harness.job(later.job_id)).result == {"by": "later"}


async def test_concurrent_rescuers_rescue_each_job_once(harness: JobHarness) -> None:
    async with harness.database.transaction() as tx:
        for _ in range(150):
            await job_admin.enqueue(tx, NewJob("a"))
    leases = {job.lease for job in await claim(harness.database, lease_seconds=0)}
    rescued: Counter[object] = Counter()
    while len(rescued) < len(leases):
        for some in await asyncio.gather(*(rescue(harness.database) for _ in range(4))):
            rescued.update(each.lease for each in some)
    assert rescued == Counter(leases)
    assert await count_attempts(harness.database) == len(leases)


async def test_rescue_or_completion_wins_but_never_both(harness: JobHarness) -> None:
    for turn in range(100):
        job = await claim_one(harness, lease_seconds=0)
        both = (
            rescue(harness.database),
            complete_with_retries(harness.database, JobCompletion(job.lease, COMPLETED, result={"is": "done"})),
        )
        rescued, written = await asyncio.gather(*(both if turn % 2 else both[::-1]))
        assert len(rescued) + len(written) == 1
        row = await harness.job(job.job_id)
        if row.status is JobStatus.COMPLETED:
            assert (row.result, await harness.attempts(job.job_id)) == ({"is": "done"}, [(1, "completed")])
        else:
            assert (row.status, row.result, row.finished_at) == (JobStatus.QUEUED, None, None)
            assert await harness.attempts(job.job_id) == [(1, "lease_lost")]
            await harness.update_row(job.job_id, status="cancelled")


async def test_rescue_cancels_a_job_with_a_cancel_request(harness: JobHarness) -> None:
    job = await claim_one(harness, lease_seconds=0)
    async with harness.database.transaction() as tx:
        await job_admin.cancel(tx, job.job_id, "enough")
    (rescued,) = await rescue(harness.database)
    assert rescued.status is JobStatus.CANCELLED


async def test_rescue_takes_a_job_that_was_set_to_processing_by_hand(harness: JobHarness) -> None:
    job_id = await harness.enqueue(NewJob("a"))
    await harness.update_row(job_id, status="processing")
    (rescued,) = await rescue(harness.database)
    assert rescued.status is JobStatus.QUEUED


async def test_rolled_back_step_changes_neither_lease_nor_cursor(harness: JobHarness) -> None:
    job = await claim_one(harness)
    before = await harness.job(job.job_id)
    try:
        async with harness.database.transaction() as tx:
            assert await job_attempts.save_progress(tx, job.lease, 2 * LONG, JobProgress({"place": 1}, 1, 2)) is False
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert await harness.job(job.job_id) == before


async def zombie_saves_no_progress(harness: JobHarness) -> None:
    zombie = await claim_one(harness, lease_seconds=0)
    await rescue(harness.database)
    await claim(harness.database)
    async with harness.database.transaction() as tx:
        await job_attempts.save_progress(tx, zombie.lease, LONG, JobProgress({"place": 9}))
    assert (await harness.job(zombie.job_id)).cursor is None


async def zombie_completes_nothing(harness: JobHarness) -> None:
    zombie = await claim_one(harness, lease_seconds=0)
    await rescue(harness.database)
    await claim(harness.database)
    await complete(harness.database, JobCompletion(zombie.lease, COMPLETED, result={"by": "zombie"}))
    assert (await harness.job(zombie.job_id)).status is JobStatus.PROCESSING


SAVE_PROGRESS, COMPLETE = job_attempts.save_progress, job_attempts.complete


async def present_lease(tx: AsyncConnection, lease: Lease) -> Lease:
    token = await tx.scalar(select(batch_jobs.c.lease_token).where(batch_jobs.c.id == lease.job_id))
    return Lease(lease.job_id, str(token))


async def saves_under_any_lease(
    tx: AsyncConnection, lease: Lease, lease_seconds: float, progress: JobProgress
) -> bool | None:
    return await SAVE_PROGRESS(tx, await present_lease(tx, lease), lease_seconds, progress)


async def completes_under_any_lease(tx: AsyncConnection, completions: Sequence[JobCompletion]) -> object:
    return await COMPLETE(tx, [each._replace(lease=await present_lease(tx, each.lease)) for each in completions])


@pytest.mark.parametrize(
    ("mutation", "scenario"),
    [
        (
            Mutation("no lease check of progress", job_attempts, "save_progress", saves_under_any_lease),
            zombie_saves_no_progress,
        ),
        (
            Mutation("no lease check of a completion", job_attempts, "complete", completes_under_any_lease),
            zombie_completes_nothing,
        ),
    ],
    ids=["progress", "completion"],
)
async def test_write_without_a_lease_check_is_detected(
    harness: JobHarness, mutation: Mutation, scenario: Callable[[JobHarness], Awaitable[None]]
) -> None:
    await assert_detected(mutation, lambda: scenario(harness))
