"""The deleter of files: after a commit only, killed anywhere, at once with another, with a store that fails."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import insert, select

from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.documents.store_mark import StoreMark
from kyc_worker.privacy.retention_job import delete_request_data
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, utc_now
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import document_deletions, kyc_documents, kyc_requests
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.documents.deletions import DeletionReason
from safevideo_common.documents.files import FileStore, FolderStore, unavailable_on
from safevideo_common.documents.store import NewDocument
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_common.domain.performers import Performer
from safevideo_common.errors import FilesUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.tasks import running_task
from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.kill_points import KillableDatabase, KillableFiles, Killed, KillPoint

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
CALLER = Caller("legal", "admin", None, "r1")


class FailingStore(FolderStore):
    """A folder in which some files cannot be deleted."""

    def __init__(self, folder: Path, stuck: set[str]) -> None:
        super().__init__(folder)
        self.stuck = stuck
        self.tries: Counter[str] = Counter()

    async def delete_file(self, name: str) -> None:
        """See `FileStore`."""
        self.tries[name] += 1
        with unavailable_on(OSError):
            if name in self.stuck:
                raise OSError
        await super().delete_file(name)


@dataclass(slots=True)
class Documents:
    """A request of a performer, its documents, and deleters with a clock that a test sets."""

    database: Database
    folder: Path
    log: FilteringBoundLogger
    now: datetime = NOW
    request_id: int = 0
    names: list[str] = field(default_factory=list)

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder)

    def deleter(
        self, store: FileStore | None = None, database: Database | None = None, clock: Clock | None = None
    ) -> DocumentDeleter:
        used = database or self.database
        mark = StoreMark(self.database, self.store, utc_now, self.log)
        return DocumentDeleter(used, store or self.store, mark, clock or (lambda: self.now), self.log)

    async def submit(self) -> None:
        values = {"performer_id": "sg_ada", "status": "pending", "created_at": NOW, "updated_at": NOW}
        async with self.database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_ada")], NOW)
            self.request_id = int((await tx.execute(insert(kyc_requests).values(values))).lastrowid)

    async def upload(self, slot: Slot) -> str:
        name = token_hex(16)
        await self.store.put(name, b"encrypted")
        document = NewDocument(self.request_id, slot, DocumentType.SELFIE, "image/jpeg", "0" * 64, 9, name, self.now)
        async with self.database.transaction() as tx:
            await documents.replace(tx, document)
        return name

    async def remove(self) -> None:
        async with self.database.transaction() as tx:
            await delete_request_data(tx, self.request_id, self.now)

    async def orders(self) -> Mapping[str, int]:
        """The files that are to be deleted, with the number of attempts."""
        c = document_deletions.c
        async with self.database.read_connection() as reading:
            return {row.file_name: row.tries for row in await reading.execute(select(c.file_name, c.tries))}

    async def rows(self) -> list[str]:
        async with self.database.read_connection() as reading:
            return list(await reading.scalars(select(kyc_documents.c.file_name).order_by(kyc_documents.c.id)))

    def files(self) -> set[str]:
        return {each.name for each in self.folder.rglob("*/*") if each.is_file()}


@pytest.fixture
async def stored(database: Database, tmp_path: Path, log: FilteringBoundLogger) -> Documents:
    stored = Documents(database, tmp_path / "documents", log)
    await stored.submit()
    return stored


async def test_transaction_that_fails_keeps_files_and_rows(stored: Documents) -> None:
    names = [await stored.upload(slot) for slot in (Slot.SELFIE, Slot.ID_FRONT)]
    with pytest.raises(Killed):
        async with KillableDatabase(stored.database, KillPoint(1)).transaction() as tx:
            await delete_request_data(tx, stored.request_id, NOW)
    await stored.deleter().delete_due()
    assert stored.files() == set(await stored.rows()) == set(names)


async def test_deleter_that_is_killed_anywhere_leaves_nothing_behind(stored: Documents) -> None:
    steps = 0
    for kill_at in range(1, 100):
        for slot in (Slot.SELFIE, Slot.ID_FRONT):
            await stored.upload(slot)
        await stored.remove()
        kill = KillPoint(kill_at)
        killed = stored.deleter(KillableFiles(stored.store, kill), KillableDatabase(stored.database, kill))
        with suppress(Killed):
            await killed.delete_due()
            steps = kill.reached
        stored.now += timedelta(minutes=2)
        await stored.deleter().delete_due()
        assert (stored.files(), await stored.orders()) == (set(), {})
        if steps:
            break
    assert steps == 8, "two commits before and after, two files before and after"


async def test_two_deleters_at_once_delete_each_file_once(stored: Documents) -> None:
    store = FailingStore(stored.folder, set())
    for slot in Slot:
        await stored.upload(slot)
    await stored.remove()
    await asyncio.gather(*(stored.deleter(store).delete_due() for _ in range(2)))
    assert stored.files() == set()
    assert set(store.tries.values()) == {1}


async def test_file_that_cannot_be_deleted_delays_no_other_and_is_tried_less_and_less(stored: Documents) -> None:
    stuck, other = await stored.upload(Slot.SELFIE), await stored.upload(Slot.ID_FRONT)
    await stored.remove()
    store = FailingStore(stored.folder, {stuck})
    for minutes, tries in ((0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4)):
        stored.now = NOW + timedelta(minutes=minutes)
        with suppress(FilesUnavailable):
            await stored.deleter(store).delete_due()
        assert store.tries == {stuck: tries, other: 1}
    assert stored.files() == {stuck}
    assert await stored.orders() == {stuck: 4}
    store.stuck.clear()
    await stored.deleter(store).delete_of([stored.request_id])
    assert (stored.files(), await stored.orders()) == (set(), {})


async def test_row_with_a_name_that_is_none_stops_nothing(stored: Documents) -> None:
    async with stored.database.transaction() as tx:
        await deletions.record(tx, ["../../etc/passwd"], None, DeletionReason.REMOVED, NOW)
    await stored.upload(Slot.SELFIE)
    await stored.remove()
    with pytest.raises(FilesUnavailable):
        await stored.deleter().delete_due()
    assert (stored.files(), await stored.orders()) == (set(), {"../../etc/passwd": 1})


async def test_erasure_waits_until_the_files_are_gone(stored: Documents) -> None:
    name = await stored.upload(Slot.SELFIE)
    await stored.remove()
    store = FailingStore(stored.folder, {name})
    for _ in range(2):
        with pytest.raises(FilesUnavailable):
            await stored.deleter(store).delete_of([stored.request_id])
    await stored.deleter().delete_of([stored.request_id])
    await stored.deleter().delete_of([stored.request_id])
    assert (stored.files(), await stored.orders()) == (set(), {})


async def test_store_that_hangs_is_given_up(stored: Documents) -> None:
    class HangingStore(FolderStore):
        async def delete_file(self, name: str) -> None:
            await asyncio.Event().wait()

        async def read_mark(self) -> str | None:
            await asyncio.Event().wait()
            return None

    hanging = HangingStore(stored.folder)
    name = await stored.upload(Slot.SELFIE)
    await stored.remove()
    mark = StoreMark(stored.database, stored.store, utc_now, stored.log)
    with pytest.raises(FilesUnavailable):
        await DocumentDeleter(stored.database, hanging, mark, lambda: NOW, stored.log, seconds=0).delete_due()
    with pytest.raises(FilesUnavailable):
        await StoreMark(stored.database, hanging, utc_now, stored.log, seconds=0).check()
    assert (stored.files(), await stored.orders()) == ({name}, {name: 1})


async def test_file_that_a_row_names_is_kept(stored: Documents) -> None:
    name = await stored.upload(Slot.SELFIE)
    async with stored.database.transaction() as tx:
        await deletions.record(tx, [name], stored.request_id, DeletionReason.REMOVED, NOW)
    await stored.deleter().delete_due()
    assert (stored.files(), await stored.orders()) == ({name}, {})


async def test_replaced_file_is_kept_while_its_person_is_held(stored: Documents) -> None:
    holds = LegalHolds(stored.database, utc_now)
    await holds.create("sg_ada", "case 7", CALLER)
    replaced, current = [await stored.upload(Slot.SELFIE) for _ in range(2)]
    await stored.deleter().delete_due()
    assert stored.files() == {replaced, current}
    await holds.release("sg_ada", "closed", CALLER)
    await stored.deleter().delete_due()
    assert stored.files() == {replaced, current}
    stored.now += timedelta(hours=1)
    await stored.deleter().delete_due()
    assert stored.files() == {current}


async def test_deleter_goes_on_after_an_outage_of_the_store(stored: Documents) -> None:
    name = await stored.upload(Slot.SELFIE)
    await stored.remove()
    store = FailingStore(stored.folder, {name})
    start = utc_now()
    deleter = stored.deleter(store, clock=lambda: stored.now + 600 * (utc_now() - start))

    async def is_tried() -> bool:
        return store.tries[name] > 0

    async def is_deleted() -> bool:
        return stored.files() == set()

    async with running_task(deleter.run(), "document-deleter"):
        await eventually(is_tried)
        store.stuck.clear()
        await eventually(is_deleted)
