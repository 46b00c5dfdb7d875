"""The end of KYC requests: warnings, expiry, renewal, and requests whose documents never came."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from kyc_worker.verifications.expiry_job import ExpiryJob
from safevideo_common.database import erasures, kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.database.tables import document_deletions, kyc_documents, outbox
from safevideo_common.database.tables import kyc_requests as table
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.store import NewDocument
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.kyc.decisions import record_decision
from safevideo_common.kyc.requests import EXPIRY_JOB
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.stacks import StackUnderTest

START = datetime(2026, 11, 28, 10, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = KycRules(validity=100 * DAY)


@dataclass(slots=True)
class ExpiryHarness:
    """Requests of one performer, a clock that a test sets, and runs of the job."""

    database: Database
    files: FolderStore
    logger: FilteringBoundLogger
    name: str = field(default_factory=lambda: f"sg_{token_hex(6)}")
    now: datetime = START

    async def submitted(self, document_expires_on: date = date(2031, 1, 1)) -> int:
        async with self.database.transaction() as tx:
            return await kyc_requests.submit(
                tx,
                self.name,
                document_type="passport",
                document_expires_on=document_expires_on,
                applicant=b"",
                created_at=self.now,
            )

    async def decide(self, request_id: int, status: KycStatus) -> None:
        async with self.database.transaction() as tx:
            stored = await kyc_requests.get(tx, request_id, locked=True)
            assert stored is not None
            await record_decision(tx, stored.request, status, self.now, RULES, decided_by="a-reviewer")

    async def run(self) -> dict[str, int]:
        """Run the job twice, as after a kill before its end, and return what the first run did."""
        handler = ExpiryJob(self.database, RULES, 14 * DAY, lambda: self.now)
        jobs = JobHarness(self.database, self.logger)
        async with jobs.running({EXPIRY_JOB: handler}):
            first, second = [
                await jobs.wait_for_status(await jobs.enqueue(NewJob(EXPIRY_JOB)), JobStatus.COMPLETED)
                for _ in range(2)
            ]
        assert second.result == dict.fromkeys(("warned", "expired", "abandoned"), 0)
        assert first.result is not None
        return {name: number for name, number in msgspec.convert(first.result, dict[str, int]).items() if number}

    async def status(self, request_id: int) -> KycStatus:
        async with self.database.read_connection() as reading:
            stored = await kyc_requests.get(reading, request_id)
        assert stored is not None
        return stored.request.status

    async def published(self) -> Sequence[dict[str, Any]]:
        async with self.database.read_connection() as reading:
            rows = await reading.scalars(
                select(outbox.c.payload).where(outbox.c.message_key == self.name.encode()).order_by(outbox.c.id)
            )
            return [msgspec.json.decode(each) for each in rows]


@pytest.fixture
async def requests(stack: StackUnderTest, log: FilteringBoundLogger, tmp_path: Path) -> AsyncIterator[ExpiryHarness]:
    async with Database.open(stack.database_url) as database:
        yield ExpiryHarness(database, FolderStore(tmp_path), log)


async def test_verified_request_is_announced_twice_and_expires_once(requests: ExpiryHarness) -> None:
    request_id = await requests.submitted()
    await requests.decide(request_id, KycStatus.VERIFIED)
    done = {}
    for days in (69, 70, 92, 93, 99, 100, 101):
        requests.now = START + days * DAY
        done[days] = await requests.run()
    warned, expired = {"warned": 1}, {"expired": 1}
    assert done == {69: {}, 70: warned, 92: {}, 93: warned, 99: {}, 100: expired, 101: {}}
    _, first, second, end = await requests.published()
    assert [(each["daysLeft"], each["expiresAt"]) for each in (first, second)] == [
        (30, "2027-03-08T10:00:00Z"),
        (7, "2027-03-08T10:00:00Z"),
    ]
    assert (end["previousStatus"], end["status"]) == ("verified", "expired")
    assert end["causedBy"]["type"] == "safevideo.kyc.expired"
    assert await requests.status(request_id) is KycStatus.EXPIRED


async def test_document_that_ends_earlier_ends_the_request_and_missed_warnings_are_one(requests: ExpiryHarness) -> None:
    request_id = await requests.submitted((START + 5 * DAY).date())
    await requests.decide(request_id, KycStatus.VERIFIED)
    assert await requests.run() == {"warned": 1}
    assert (await requests.published())[-1]["daysLeft"] == 6
    requests.now = START + 6 * DAY
    assert await requests.run() == {"expired": 1}


async def test_request_stays_verified_until_its_renewal_is(requests: ExpiryHarness) -> None:
    first = await requests.submitted()
    await requests.decide(first, KycStatus.VERIFIED)
    requests.now = START + 80 * DAY
    second = await requests.submitted()
    assert await requests.status(first) is KycStatus.VERIFIED
    await requests.decide(second, KycStatus.VERIFIED)
    assert await requests.status(first) is KycStatus.EXPIRED
    changes = [(each["kycRequestId"], each["status"], each["causedBy"]["type"]) for each in await requests.published()]
    assert changes[1:] == [
        (second, "verified", "safevideo.kyc.decided"),
        (first, "expired", "safevideo.kyc.replaced"),
    ]


async def test_request_whose_documents_never_came_expires_and_its_documents_go(requests: ExpiryHarness) -> None:
    request_id = await requests.submitted()
    name = "0" * 32
    await requests.files.put(name, b"a part of the documents")
    document = NewDocument(request_id, Slot.SELFIE, DocumentType.SELFIE, "image/jpeg", "0" * 64, 23, name, requests.now)
    async with requests.database.transaction() as tx:
        await documents.replace(tx, document)
    requests.now = START + 14 * DAY
    assert await requests.run() == {}
    requests.now += timedelta(seconds=1)
    assert await requests.run() == {"abandoned": 1}
    assert await requests.status(request_id) is KycStatus.EXPIRED
    async with requests.database.read_connection() as reading:
        assert await reading.scalar(select(kyc_documents.c.id)) is None
        assert await reading.scalar(select(document_deletions.c.file_name)) == name
    assert await requests.files.get(name) is not None, "the deleter comes after the commit"


async def test_end_of_an_erased_performer_is_not_announced(requests: ExpiryHarness) -> None:
    request_id = await requests.submitted()
    await requests.decide(request_id, KycStatus.VERIFIED)
    async with requests.database.transaction() as tx:
        performer = {IdentifierKind.PERFORMER: [requests.name]}
        await erasures.create_order(PersonLock(tx), performer, "asked for it", "an-admin", START)
    requests.now = START + 95 * DAY
    assert await requests.run() == {}
    requests.now = START + 100 * DAY
    assert await requests.run() == {"expired": 1}


async def test_verified_request_without_an_end_gets_one(requests: ExpiryHarness) -> None:
    request_id = await requests.submitted()
    await requests.decide(request_id, KycStatus.VERIFIED)
    async with requests.database.transaction() as tx:
        await kyc_requests.set_values(tx, request_id, expires_at=None, expiry_due_at=None)
    assert await requests.run() == {}
    async with requests.database.read_connection() as reading:
        assert await reading.scalar(select(table.c.expires_at)) == START + 100 * DAY
