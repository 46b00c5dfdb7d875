"""The job that asks for late results: it comes to every request, whatever becomes of those before."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Final, cast

import pytest

from kyc_worker.verifications.handler import VerificationHandler
from kyc_worker.verifications.resync_job import LATE_AFTER, MAX_FAILURES, ResyncJob
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.jobs.model import Job, JobStatus, NewJob
from safevideo_common.kyc.requests import RESYNC_JOB
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import FailureReason, SharegramUnavailable
from safevideo_common.sharegram.operations import SharegramCaller, VerificationState
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.stacks import StackUnderTest

NOW: Final = datetime(2026, 11, 28, 10, tzinfo=UTC)
PAGE: Final = 2


@dataclass(slots=True)
class PendingAtSharegram:
    """A Sharegram that has no result yet, and fails for some verifications."""

    asked: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)

    async def verification(self, _caller: SharegramCaller, verification_id: str) -> VerificationState:
        self.asked.append(verification_id)
        if verification_id in self.failures:
            raise self.failures[verification_id]
        return VerificationState(verification_id, "sg_1", "pending", None, NOW)


@dataclass(slots=True)
class ResyncHarness:
    """Late requests, and runs of the job."""

    database: Database
    logger: FilteringBoundLogger
    sharegram: PendingAtSharegram = field(default_factory=PendingAtSharegram)

    async def late(self, number: int) -> list[str]:
        """Make requests that have been in progress for too long. Return the ids of their verifications, in order."""
        ids = [token_hex(8) for _ in range(number)]
        async with self.database.transaction() as tx:
            for each in ids:
                at = NOW - LATE_AFTER - timedelta(minutes=1)
                await kyc_requests.insert_request(tx, f"sg_{each}", each, KycStatus.IN_PROGRESS, at)
        return ids

    async def run(self, ends: JobStatus = JobStatus.COMPLETED) -> Job:
        def clock() -> datetime:
            return NOW

        handler = VerificationHandler(clock, KycRules())
        client = cast("SharegramClient", self.sharegram)
        job = ResyncJob(self.database, handler, client, clock, self.logger, page=PAGE)
        jobs = JobHarness(self.database, self.logger)
        async with jobs.running({RESYNC_JOB: job}):
            return await jobs.wait_for_status(await jobs.enqueue(NewJob(RESYNC_JOB)), ends)


@pytest.fixture
async def resync(stack: StackUnderTest, log: FilteringBoundLogger) -> AsyncIterator[ResyncHarness]:
    async with Database.open(stack.database_url) as database:
        yield ResyncHarness(database, log)


async def test_every_late_request_is_asked_for_though_those_before_stay_without_a_result(resync: ResyncHarness) -> None:
    ids = await resync.late(3 * PAGE + 1)
    job = await resync.run()
    assert resync.sharegram.asked == ids
    assert job.result == {"outcomes": {"pending": len(ids)}}


@pytest.mark.parametrize("failure", [SharegramUnavailable(FailureReason.UNAVAILABLE, "503"), OverflowError("year")])
async def test_request_that_always_fails_keeps_none_after_it_from_being_asked_for(
    resync: ResyncHarness, failure: Exception
) -> None:
    ids = await resync.late(2 * PAGE)
    resync.sharegram.failures[ids[1]] = failure
    job = await resync.run()
    assert resync.sharegram.asked == ids
    assert job.result == {"outcomes": {"pending": len(ids) - 1, "failed": 1}}


async def test_run_waits_where_one_request_after_the_other_fails(resync: ResyncHarness) -> None:
    ids = await resync.late(MAX_FAILURES + 2)
    resync.sharegram.failures = dict.fromkeys(ids, SharegramUnavailable(FailureReason.UNAVAILABLE, "503"))
    job = await resync.run(JobStatus.FAILED)
    assert ids[-1] not in resync.sharegram.asked
    assert job.error is not None
    assert job.error.startswith("SERVICE_UNAVAILABLE")
