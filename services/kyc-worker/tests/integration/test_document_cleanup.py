"""Files without a row and rows without their file, and the metrics that alerts are made of."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete

from kyc_worker.documents.cleanup_job import DocumentCleanupJob
from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import Refusal, StoreMark, StoreMismatch
from kyc_worker.metrics import KycMonitor
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import document_stores
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.documents.deletions import DeletionReason
from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.s3 import S3FileStore
from safevideo_common.documents.store import FileFault, NewDocument
from safevideo_common.domain.kyc import KycStatus, ReviewReason
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_common.jobs.model import Job, JobStatus, NewJob
from safevideo_common.kyc.requests import CLEANUP_JOB
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.faults.kill_points import Killed
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

    @property
    def mark(self) -> StoreMark:
        return StoreMark(self.database, self.store, utc_now, self.logger)

    async def compare(self, status: JobStatus = JobStatus.COMPLETED, **parameters: object) -> Job:
        """Run the job once until it has the status, and return it."""
        jobs = JobHarness(self.database, self.logger)
        handler = DocumentCleanupJob(self.database, self.store, self.mark, utc_now, self.logger)
        async with jobs.running({CLEANUP_JOB: handler}):
            job_id = await jobs.enqueue(NewJob(CLEANUP_JOB, parameters))
            return await jobs.wait_for_status(job_id, status)

    async def run(self) -> object:
        return (await self.compare()).result

    async def delete_due(self, after: timedelta) -> None:
        """Delete what is due when this time has passed."""
        clock = partial(_later, after)
        await DocumentDeleter(self.database, self.store, self.mark, clock, self.logger).delete_due()

    async def use_another_database(self, *, is_new: bool) -> None:
        """Let the database be as an empty one is, or as one of another store."""
        async with self.database.transaction() as tx:
            await tx.execute(delete(document_stores))
        if not is_new:
            await StoreMark(self.database, FolderStore(self.folder / "of-the-other"), utc_now, self.logger).check()

    async def refusals(self) -> dict[str, float]:
        """The metric that the alert asks for."""
        registry = CollectorRegistry()
        await KycMonitor(self.database, registry, utc_now).measure()
        name = "safevideo_kyc_document_cleanup_refused"
        return {each: registry.get_sample_value(name, {"reason": each}) or 0 for each in Refusal}

    async def faults(self) -> dict[int, FileFault | None]:
        async with self.database.read_connection() as reading:
            return {each.id: each.fault for each in await documents.of_request(reading, REQUEST_ID)}


@pytest.fixture
async def stored(stack: StackUnderTest, log: FilteringBoundLogger, tmp_path: Path) -> AsyncIterator[Documents]:
    async with Database.open(stack.database_url) as database:
        yield Documents(database, tmp_path, log)


def _later(age: timedelta) -> datetime:
    return utc_now() + age


async def test_only_files_that_never_get_a_row_are_deleted(stored: Documents) -> None:
    with_row = await stored.file("0" * 32)
    await stored.row("0" * 32, Slot.SELFIE)
    being_uploaded = await stored.file("a" * 32, age=timedelta(hours=23))
    of_killed_upload = await stored.file("b" * 32)
    unfinished = (await stored.file("c" * 32)).rename(stored.folder / "cc" / ("c" * 32 + ".new"))
    another = stored.folder / "cc" / "notes.txt"
    another.write_text("not ours")
    paths = (with_row, being_uploaded, of_killed_upload, unfinished, another)
    assert await stored.run() == {"orphans": 2, "missing": 0}
    await stored.delete_due(timedelta(hours=23))
    assert [each.exists() for each in paths] == [True] * 5
    assert await stored.run() == {"orphans": 0, "missing": 0}
    await stored.delete_due(timedelta(hours=25))
    assert [each.exists() for each in paths] == [True, True, False, False, True]
    assert await stored.run() == {"orphans": 0, "missing": 0}


async def test_file_that_has_a_row_at_the_second_look_is_kept(stored: Documents) -> None:
    path = await stored.file("b" * 32)
    assert await stored.run() == {"orphans": 1, "missing": 0}
    await stored.row("b" * 32, Slot.SELFIE)  # the database is restored meanwhile
    await stored.delete_due(timedelta(days=2))
    assert path.exists()


async def test_the_same_in_object_storage(stored: Documents, mock_s3: MockS3) -> None:
    store, jobs = S3FileStore(mock_s3.bucket()), JobHarness(stored.database, stored.logger)
    for name in ("0" * 32, "a" * 32):
        await store.put(name, b"encrypted")
    lost = await stored.row("f" * 32, Slot.ID_FRONT)
    await stored.row("0" * 32, Slot.SELFIE)
    mark = StoreMark(stored.database, store, utc_now, stored.logger)
    results = []
    for age in (timedelta(hours=23), timedelta(hours=25)):
        handler = DocumentCleanupJob(stored.database, store, mark, partial(_later, age), stored.logger)
        async with jobs.running({CLEANUP_JOB: handler}):
            job_id = await jobs.enqueue(NewJob(CLEANUP_JOB))
            results.append((await jobs.wait_for_status(job_id, JobStatus.COMPLETED)).result)
    assert results == [{"orphans": 0, "missing": 1}, {"orphans": 1, "missing": 0}]
    clock = partial(_later, timedelta(hours=50))
    await DocumentDeleter(stored.database, store, mark, clock, stored.logger).delete_due()
    assert [await store.get(name) for name in ("0" * 32, "a" * 32)] == [b"encrypted", None]
    assert (await stored.faults())[lost] is FileFault.MISSING


@pytest.mark.parametrize("is_empty", [True, False])
async def test_nothing_is_deleted_by_a_database_that_does_not_know_the_store(stored: Documents, is_empty: bool) -> None:
    """An empty database, and one that belongs to another store."""
    path = await stored.file("b" * 32)
    await stored.mark.check()
    await stored.use_another_database(is_new=is_empty)
    failed = await stored.compare(JobStatus.FAILED)
    assert (failed.error or "").startswith("DOCUMENT_STORE_MISMATCH: ")
    async with stored.database.transaction() as tx:
        await deletions.record(tx, [path.name], None, DeletionReason.REMOVED, utc_now())
    with pytest.raises(StoreMismatch):
        await stored.delete_due(timedelta(days=9))
    assert path.exists()
    assert (await stored.refusals()) == {"store_mismatch": 1, "too_many_orphans": 0}
    adopted = await stored.compare(adoptStore=True)
    assert adopted.result == {"orphans": 0, "missing": 0}
    await stored.delete_due(timedelta())
    assert not path.exists()
    assert (await stored.refusals()) == {"store_mismatch": 0, "too_many_orphans": 0}


async def test_nothing_is_compared_with_a_folder_that_is_not_mounted(stored: Documents) -> None:
    document_id = await stored.row("0" * 32, Slot.SELFIE)
    await stored.file("0" * 32)
    assert await stored.run() == {"orphans": 0, "missing": 0}
    stored.folder /= "not-mounted"
    failed = await stored.compare(JobStatus.FAILED)
    assert (failed.error or "").startswith("DOCUMENT_STORE_MISMATCH: ")
    assert await stored.faults() == {document_id: None}
    assert (await stored.compare(adoptStore=True)).result == {"orphans": 0, "missing": 1}
    assert await stored.faults() == {document_id: FileFault.MISSING}


async def test_files_without_a_row_are_kept_when_there_are_too_many(stored: Documents) -> None:
    names = [f"{number:x}" * 32 for number in range(16)] + [f"{number:x}0" * 16 for number in range(1, 6)]
    paths = [await stored.file(name) for name in names]
    refused = await stored.compare(JobStatus.FAILED)
    assert refused.error == (
        "DOCUMENT_ORPHANS_NEED_CONFIRMATION: 21 of 21 files have no row, so none of them is deleted"
    )
    assert (await stored.refusals()) == {"store_mismatch": 0, "too_many_orphans": 1}
    await stored.delete_due(timedelta(days=9))
    assert all(each.exists() for each in paths)
    await stored.compare(JobStatus.FAILED, acceptOrphans=20)
    assert (await stored.compare(acceptOrphans=21)).result == {"orphans": 21, "missing": 0}
    assert (await stored.refusals()) == {"store_mismatch": 0, "too_many_orphans": 0}
    await stored.delete_due(timedelta(days=9))
    assert not any(each.exists() for each in paths)


async def test_process_that_dies_as_it_marks_the_store_is_followed_by_one_that_does(stored: Documents) -> None:
    class DyingStore(FolderStore):
        async def write_mark(self, mark: str) -> None:
            raise Killed

    with pytest.raises(Killed):
        await StoreMark(stored.database, DyingStore(stored.folder), utc_now, stored.logger).check()
    await asyncio.gather(*(stored.mark.check() for _ in range(3)))
    mark = await stored.store.read_mark()
    await stored.mark.check()
    assert mark is not None
    assert await stored.store.read_mark() == mark


async def test_row_without_its_file_has_a_fault_until_the_file_is_back(stored: Documents) -> None:
    kept, lost = await stored.row("0" * 32, Slot.SELFIE), await stored.row("f" * 32, Slot.ID_FRONT)
    await stored.file("0" * 32)
    assert await stored.run() == {"orphans": 0, "missing": 1}
    assert await stored.faults() == {kept: None, lost: FileFault.MISSING}
    assert await stored.run() == {"orphans": 0, "missing": 0}
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
        for age in (90, -3600):
            due_at = NOW - timedelta(seconds=age)
            await deletions.record(tx, [f"{abs(age):032x}"], None, DeletionReason.REMOVED, due_at)
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
        ("document_deletion_oldest_seconds",): 90,
        ("document_cleanup_refused", "store_mismatch"): 0,
        ("document_cleanup_refused", "too_many_orphans"): 0,
    }
