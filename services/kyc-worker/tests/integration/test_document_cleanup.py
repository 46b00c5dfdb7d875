"""Files without a row and rows without their file, and the metrics that alerts are made of."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from kyc_worker.documents.cleanup_job import DocumentCleanupJob
from kyc_worker.metrics import KycMonitor
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.s3 import S3FileStore
from safevideo_common.documents.store import FileFault, NewDocument
from safevideo_common.domain.kyc import KycStatus, ReviewReason
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.kyc.requests import CLEANUP_JOB
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.file_stores import MockS3
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.stacks import StackUnderTest

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
REQUEST_ID = 7


@dataclass(slots=True)
class Documents:
    """Documents of one request, in a folder and in a database."""

    database: Database
    folder: Path
    logger: FilteringBoundLogger

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder)

    async def file(self, name: str, age: timedelta = timedelta(days=2)) -> Path:
        await self.store.put(name, b"encrypted")
        path = self.folder / name[:2] / name
        at = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (at, at))
        return path

    async def row(self, name: str, slot: Slot) -> int:
        document = NewDocument(REQUEST_ID, slot, DocumentType.SELFIE, "image/jpeg", "0" * 64, 9, name, NOW)
        async with self.database.transaction() as tx:
            return (await documents.replace(tx, document))[0]

    async def run(self) -> object:
        jobs = JobHarness(self.database, self.logger)
        handler = DocumentCleanupJob(self.database, self.store, utc_now, self.logger)
        async with jobs.running({CLEANUP_JOB: handler}):
            done = await jobs.wait_for_status(await jobs.enqueue(NewJob(CLEANUP_JOB)), JobStatus.COMPLETED)
        return done.result

    async def faults(self) -> dict[int, FileFault | None]:
        async with self.database.read_connection() as reading:
            return {each.id: each.fault for each in await documents.of_request(reading, REQUEST_ID)}


@pytest.fixture
async def stored(stack: StackUnderTest, log: FilteringBoundLogger, tmp_path: Path) -> AsyncIterator[Documents]:
    async with Database.open(stack.database_url) as database:
        yield Documents(database, tmp_path, log)


async def test_only_files_that_never_get_a_row_are_deleted(stored: Documents) -> None:
    with_row = await stored.file("0" * 32)
    await stored.row("0" * 32, Slot.SELFIE)
    being_uploaded = await stored.file("a" * 32, age=timedelta(hours=23))
    of_killed_upload = await stored.file("b" * 32)
    unfinished = (await stored.file("c" * 32)).rename(stored.folder / "cc" / ("c" * 32 + ".new"))
    another = stored.folder / "cc" / "notes.txt"
    another.write_text("not ours")
    assert await stored.run() == {"deleted": 2, "missing": 0}
    assert [each.exists() for each in (with_row, being_uploaded, of_killed_upload, unfinished, another)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert await stored.run() == {"deleted": 0, "missing": 0}


def _later(age: timedelta) -> datetime:
    return utc_now() + age


async def test_the_same_in_object_storage(stored: Documents, mock_s3: MockS3) -> None:
    store, jobs = S3FileStore(mock_s3.bucket()), JobHarness(stored.database, stored.logger)
    for name in ("0" * 32, "a" * 32):
        await store.put(name, b"encrypted")
    lost = await stored.row("f" * 32, Slot.ID_FRONT)
    await stored.row("0" * 32, Slot.SELFIE)
    results = []
    for age in (timedelta(hours=23), timedelta(hours=25)):
        handler = DocumentCleanupJob(stored.database, store, partial(_later, age), stored.logger)
        async with jobs.running({CLEANUP_JOB: handler}):
            job_id = await jobs.enqueue(NewJob(CLEANUP_JOB))
            results.append((await jobs.wait_for_status(job_id, JobStatus.COMPLETED)).result)
    assert results == [{"deleted": 0, "missing": 1}, {"deleted": 1, "missing": 0}]
    assert [await store.get(name) for name in ("0" * 32, "a" * 32)] == [b"encrypted", None]
    assert (await stored.faults())[lost] is FileFault.MISSING


async def test_row_without_its_file_has_a_fault_until_the_file_is_back(stored: Documents) -> None:
    kept, lost = await stored.row("0" * 32, Slot.SELFIE), await stored.row("f" * 32, Slot.ID_FRONT)
    await stored.file("0" * 32)
    assert await stored.run() == {"deleted": 0, "missing": 1}
    assert await stored.faults() == {kept: None, lost: FileFault.MISSING}
    assert await stored.run() == {"deleted": 0, "missing": 0}
    await stored.file("f" * 32)
    await stored.run()
    assert await stored.faults() == {kept: None, lost: None}


async def test_monitor_measures_what_the_alerts_ask_for(stored: Documents) -> None:
    registry = CollectorRegistry()
    monitor = KycMonitor(stored.database, registry, lambda: NOW)
    document_id = await stored.row("f" * 32, Slot.ID_FRONT)
    async with stored.database.transaction() as tx:
        await documents.set_fault(tx, [document_id], FileFault.UNREADABLE)
        for number, (status, age) in enumerate(
            ((KycStatus.IN_PROGRESS, 5), (KycStatus.IN_PROGRESS, 50), (KycStatus.VERIFIED, 500))
        ):
            at = NOW - timedelta(seconds=age)
            last = await kyc_requests.insert_request(tx, "sg_1", f"ver_{number}", status, at)
        await kyc_requests.set_values(tx, last, review_reason=ReviewReason.PREDECESSOR_FAILED)
    await monitor.measure()
    values = {
        (sample.name.removeprefix("safevideo_kyc_"), *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }
    assert values == {
        ("oldest_seconds", "in_progress"): 50,
        ("oldest_seconds", "in_review"): 0,
        ("flagged_requests",): 1,
        ("unreadable_documents",): 1,
    }
