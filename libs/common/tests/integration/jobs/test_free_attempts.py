"""Attempts that cost nothing: they moved the cursor, or an outage ended them. A retry goes on at the cursor."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from safevideo_common.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    FilesUnavailable,
    InvalidStatusTransition,
    ServiceUnavailable,
)
from safevideo_common.jobs.handler import JobContext, RetryableJobError
from safevideo_common.jobs.model import DEFAULT_MAX_ATTEMPTS, Job, JobProgress, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.queue import Claimer
from safevideo_testkit.harness.jobs import FunctionHandler, JobHarness

EXPIRE = "UPDATE batch_jobs SET lease_until = created_at, next_try_at = created_at WHERE id = :id"


def place_of(job: JobContext | Job) -> int:
    place = (job.cursor or {}).get("place", 0)
    assert isinstance(place, int)
    return place


class SteppingHandler:
    """Takes one step, and fails, until it is at `stuck_at`; there it fails without a step until it is `fixed`."""

    def __init__(self, stuck_at: int) -> None:
        self.stuck_at = stuck_at
        self.is_fixed = False
        self.begun_at: list[int] = []

    async def run(self, job: JobContext) -> Mapping[str, object]:
        place = place_of(job)
        self.begun_at.append(place)
        if place == self.stuck_at and self.is_fixed:
            return {"place": place}
        if place < self.stuck_at:
            async with job.step({"place": place + 1}):
                pass
        raise RetryableJobError("STUCK", "it goes no further")


async def test_job_that_advances_never_fails_and_one_that_is_stuck_fails_after_its_attempts(
    harness: JobHarness,
) -> None:
    handler = SteppingHandler(stuck_at=10)
    async with harness.running({"a": handler}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.FAILED)
    assert (job.error, job.cursor) == ("STUCK: it goes no further", {"place": 10})
    assert handler.begun_at == [*range(10), *[10] * DEFAULT_MAX_ATTEMPTS]
    assert (job.attempts, job.free_attempts) == (10 + DEFAULT_MAX_ATTEMPTS, 10)


async def test_step_that_is_rolled_back_moves_no_cursor(harness: JobHarness) -> None:
    async def fail_in_step(job: JobContext) -> None:
        async with job.step({"place": place_of(job) + 1}):
            raise RetryableJobError("STUCK", "in the step")

    async with harness.running({"a": FunctionHandler(fail_in_step)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.FAILED)
    assert (job.attempts, job.free_attempts) == (DEFAULT_MAX_ATTEMPTS, 0)


async def test_same_cursor_again_is_no_progress(harness: JobHarness) -> None:
    async def repeat(job: JobContext) -> None:
        async with job.step({"place": 1, "list": (1, 2)}):
            pass
        raise RetryableJobError("STUCK", "after the same step")

    async with harness.running({"a": FunctionHandler(repeat)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.FAILED)
    assert (job.attempts, job.free_attempts) == (DEFAULT_MAX_ATTEMPTS + 1, 1)


@pytest.mark.parametrize("error", [BrokerUnavailable, DatabaseUnavailable, FilesUnavailable])
async def test_outage_costs_no_attempt(harness: JobHarness, error: type[ServiceUnavailable]) -> None:
    async def wait_for_the_dependency(job: JobContext) -> Mapping[str, object]:
        if job.attempt <= 2 * DEFAULT_MAX_ATTEMPTS:
            raise error("it does not answer")
        return {"attempt": job.attempt}

    async with harness.running({"a": FunctionHandler(wait_for_the_dependency)}):
        job = await harness.wait_for_status(await harness.enqueue(NewJob("a")), JobStatus.COMPLETED)
    assert job.result == {"attempt": 2 * DEFAULT_MAX_ATTEMPTS + 1}


@pytest.mark.parametrize("advances", [True, False])
async def test_killed_attempts_cost_nothing_while_the_job_advances(harness: JobHarness, advances: bool) -> None:
    job_id = await harness.enqueue(NewJob("a"))
    for kill in range(1, 2 * DEFAULT_MAX_ATTEMPTS + 1):
        async with harness.database.transaction() as tx:
            claimed = await Claimer("killed", 30.0).claim(tx, [job_id])
            for each in claimed:
                progress = JobProgress({"place": kill if advances else 0}, has_moved=advances)
                await job_attempts.save_progress(tx, each.lease, 30.0, progress)
            await tx.execute(text(EXPIRE), {"id": job_id})
        async with harness.database.transaction() as tx:
            await job_attempts.rescue(tx, [0.0])
    job = await harness.job(job_id)
    if advances:
        assert (job.status, job.cursor) == (JobStatus.QUEUED, {"place": 2 * DEFAULT_MAX_ATTEMPTS})
    else:
        assert (job.status, job.attempts) == (JobStatus.FAILED, DEFAULT_MAX_ATTEMPTS)


async def test_retry_of_a_failed_job_goes_on_at_its_cursor(harness: JobHarness) -> None:
    handler, job_id = await failed_at(harness, 3)
    await retry(harness, job_id)
    async with harness.running({"a": handler}):
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert handler.begun_at == [3]
    assert (job.result, job.error, job.free_attempts) == ({"place": 3}, None, job.attempts - 1)


async def test_retry_gives_a_failed_job_all_its_attempts(harness: JobHarness) -> None:
    handler, job_id = await failed_at(harness, 3)
    handler.is_fixed = False
    await retry(harness, job_id)
    async with harness.running({"a": handler}):
        await harness.wait_for_status(job_id, JobStatus.FAILED)
    assert handler.begun_at == [3] * DEFAULT_MAX_ATTEMPTS


async def test_retry_from_the_start_and_the_statement_of_the_guide_begin_anew(harness: JobHarness) -> None:
    for by_hand in (False, True):
        handler, job_id = await failed_at(harness, 1)
        if by_hand:
            await harness.reset_by_hand(job_id)
        else:
            await retry(harness, job_id, from_start=True)
        async with harness.running({"a": handler}):
            job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert handler.begun_at == [0, 1]
        assert (job.attempts, job.free_attempts) == (2, 1)


async def test_retry_of_a_completed_job_begins_anew(harness: JobHarness) -> None:
    handler, job_id = await failed_at(harness, 1)
    await retry(harness, job_id)
    async with harness.running({"a": handler}):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        with pytest.raises(InvalidStatusTransition):
            await retry(harness, await harness.enqueue(NewJob("other")))
        await retry(harness, job_id)
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert handler.begun_at == [1, 0, 1]


async def failed_at(harness: JobHarness, place: int) -> tuple[SteppingHandler, int]:
    """Return a job that has failed at `place`, and its handler, which is fixed now."""
    handler, job_id = SteppingHandler(stuck_at=place), await harness.enqueue(NewJob("a"))
    async with harness.running({"a": handler}):
        await harness.wait_for_status(job_id, JobStatus.FAILED)
    handler.is_fixed = True
    handler.begun_at.clear()
    return handler, job_id


async def retry(harness: JobHarness, job_id: int, *, from_start: bool = False) -> None:
    async with harness.database.transaction() as tx:
        await job_admin.retry(tx, job_id, from_start=from_start)
