"""Retention of KYC data: what goes when, what stays, and legal holds."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select

from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import StoreMark
from kyc_worker.privacy.retention_job import RetentionJob, RetentionMetrics, RetentionPeriods
from safevideo_common.audit.store import Caller
from safevideo_common.clock import utc_now
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import audit_log, kyc_documents, kyc_requests
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.store import StepStatus, StepType
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.domain.performers import Performer
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.privacy.jobs import RETENTION_JOB
from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name
from safevideo_testkit.harness.jobs import JobHarness

PERIODS = RetentionPeriods(verified_days=2557, rejected_days=365)


class Requests:
    """Requests with two documents each, and their files."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.store = database, FolderStore(folder)
        self.folder = folder

    async def add(self, name: str, status: KycStatus, days: int) -> int:
        at: datetime = utc_now() - timedelta(days=days)
        async with self.database.transaction() as tx:
            values = {"performer_id": name, "status": status, "created_at": at, "updated_at": at}
            decided = {"decision_status": status, "decision_at": at, "decision_reason": "other"}
            result = await tx.execute(insert(kyc_requests).values(**values, **decided, applicant=b"encrypted"))
            request_id = int(result.lastrowid)
            for slot in ("id_front", "selfie"):
                file_name = f"{request_id:016x}{len(slot):016x}"
                await self.store.put(file_name, b"encrypted")
                row = {
                    "request_id": request_id, "slot": slot, "document_type": "passport", "media_type": "image/jpeg",
                    "sha256": "0" * 64, "size": 9, "file_name": file_name, "uploaded_at": at,
                }  # fmt: skip
                await tx.execute(insert(kyc_documents).values(row))
        return request_id

    async def with_data(self) -> list[int]:
        """The requests that have an applicant, all documents and all files."""
        async with self.database.read_connection() as reading:
            ids = list(await reading.scalars(select(kyc_requests.c.id).where(kyc_requests.c.applicant.is_not(None))))
            rows = list(await reading.scalars(select(kyc_documents.c.request_id).order_by(kyc_documents.c.id)))
        files = [each for each in self.folder.rglob("*/*") if each.is_file()]
        assert rows == [each for each in ids for _ in range(2)]
        assert len(files) == len(rows)
        return ids


@pytest.fixture
def requests(database: Database, tmp_path: Path) -> Requests:
    return Requests(database, tmp_path / "documents")


async def run(harness: JobHarness, requests: Requests, log: FilteringBoundLogger) -> dict[str, object]:
    """Run the job, let the deleter follow it, and return its result."""
    metrics = RetentionMetrics(CollectorRegistry())
    job = RetentionJob(requests.database, PERIODS, metrics, utc_now, log)
    job_id = await harness.enqueue(NewJob(RETENTION_JOB))
    async with harness.running({RETENTION_JOB: job}):
        done = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    mark = StoreMark(requests.database, requests.store, utc_now, log)
    await DocumentDeleter(requests.database, requests.store, mark, utc_now, log).delete_due()
    return dict(done.result or {})


@pytest.fixture
def harness(database: Database, log: FilteringBoundLogger) -> JobHarness:
    return JobHarness(database, log)


async def test_data_goes_after_its_time_and_the_decision_stays(
    harness: JobHarness, requests: Requests, log: FilteringBoundLogger, database: Database
) -> None:
    days = {
        KycStatus.VERIFIED: 2558, KycStatus.EXPIRED: 2558, KycStatus.REJECTED: 366,
        KycStatus.PENDING: 9000, KycStatus.IN_PROGRESS: 9000, KycStatus.IN_REVIEW: 9000,
    }  # fmt: skip
    old = {status: await requests.add("sg_ada", status, age) for status, age in days.items()}
    young = [await requests.add("sg_ada", status, days[status] - 2) for status in list(days)[:3]]
    assert await run(harness, requests, log) == {"deleted": 3, "held": 0}
    assert await requests.with_data() == sorted([*young, *list(old.values())[3:]])
    async with database.read_connection() as reading:
        c = kyc_requests.c
        row = (await reading.execute(select(kyc_requests).where(c.id == old[KycStatus.REJECTED]))).one()
        audited = list(await reading.scalars(select(audit_log.c.details).order_by(audit_log.c.id)))
    assert (row.status, row.decision_reason, row.applicant) == ("rejected", "other", None)
    assert audited[0] == {"requestId": old[KycStatus.VERIFIED], "files": 2, "reason": "retention"}
    assert await run(harness, requests, log) == {"deleted": 0, "held": 0}


async def test_legal_hold_keeps_the_data_until_it_is_released(
    harness: JobHarness, requests: Requests, log: FilteringBoundLogger, database: Database
) -> None:
    kept = await requests.add("sg_ada", KycStatus.REJECTED, 366)
    await requests.add("sg_bob", KycStatus.REJECTED, 366)
    async with database.transaction() as tx:
        await performers.insert_new(tx, [Performer("sg_ada")], utc_now())
    holds, caller = LegalHolds(database, utc_now), Caller("legal", "admin", None, "r1")
    await holds.create("sg_ada", "case 7", caller)
    assert await run(harness, requests, log) == {"deleted": 1, "held": 1}
    assert await requests.with_data() == [kept]
    await holds.release("sg_ada", "case 7 is closed", caller)
    assert await run(harness, requests, log) == {"deleted": 1, "held": 0}
    assert await requests.with_data() == []


async def test_abandoned_request_that_a_hold_kept_goes_when_the_hold_is_released(
    harness: JobHarness, requests: Requests, log: FilteringBoundLogger, database: Database
) -> None:
    abandoned = await requests.add("sg_ada", KycStatus.EXPIRED, 1)
    was_verified = await requests.add("sg_ada", KycStatus.EXPIRED, 1)
    async with database.transaction() as tx:
        await performers.insert_new(tx, [Performer("sg_ada")], utc_now())
        await documents.set_step(tx, abandoned, StepType.DOCUMENT_UPLOAD, StepStatus.PENDING)
        await documents.set_step(tx, was_verified, StepType.DOCUMENT_UPLOAD, StepStatus.COMPLETED, utc_now())
    holds, caller = LegalHolds(database, utc_now), Caller("legal", "admin", None, "r1")
    await holds.create("sg_ada", "case 7", caller)
    assert await run(harness, requests, log) == {"deleted": 0, "held": 1}
    assert await requests.with_data() == [abandoned, was_verified]
    await holds.release("sg_ada", "case 7 is closed", caller)
    assert await run(harness, requests, log) == {"deleted": 1, "held": 0}
    assert await requests.with_data() == [was_verified]
