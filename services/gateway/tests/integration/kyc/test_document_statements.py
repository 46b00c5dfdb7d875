"""The number of SQL statements of an upload, first and repeated."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from secrets import token_hex

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.kyc.service import KycService
from safevideo_common.audit.store import Caller
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database, open_database
from safevideo_common.documents.store import NewDocument
from safevideo_common.domain.kyc import KycRules
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name

CALLER = Caller("a-performer", "performer", None, "req-1")
BEFORE = (4, 5, 14)
"""Of a first upload, of one that replaces another, and of the last required one, as of release 0.1."""


@dataclass(slots=True)
class CountedUploads:
    """Uploads for one request, and the statements that each of them executes."""

    engine: AsyncEngine
    request_id: int = 0
    statements: list[str] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return Database(self.engine, 20)

    async def upload(self, slot: Slot) -> int:
        with self._recorded():
            document = NewDocument(
                self.request_id, slot, DocumentType.PASSPORT, "image/jpeg", "0" * 64, 9, token_hex(16), utc_now()
            )
            await KycService(self.database, None, utc_now, KycRules()).add_document(document, CALLER)
        return len(self.statements)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        self.statements.clear()

        def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if not statement.startswith("BEGIN"):  # SQLite's, which is no statement elsewhere
                self.statements.append(statement)

        event.listen(self.engine.sync_engine, "before_cursor_execute", record)
        try:
            yield
        finally:
            event.remove(self.engine.sync_engine, "before_cursor_execute", record)


@pytest.fixture
async def uploads(migrated_url: str) -> AsyncIterator[CountedUploads]:
    async with open_database(migrated_url, 2) as engine:
        uploads = CountedUploads(engine)
        async with uploads.database.transaction() as tx:
            uploads.request_id = await kyc_requests.submit(
                tx, "sg_ada", document_type="passport", document_expires_on=date(2060, 1, 1), applicant=b"",
                created_at=utc_now(),
            )  # fmt: skip
        yield uploads


async def test_upload_executes_no_more_statements_than_it_did(uploads: CountedUploads) -> None:
    first, repeated = [await uploads.upload(Slot.ID_FRONT) for _ in range(2)]
    await uploads.upload(Slot.SELFIE)
    last = await uploads.upload(Slot.PROOF_OF_ADDRESS)
    assert (first, repeated, last) == (3, 5, 13)
    assert all(now <= before for now, before in zip((first, repeated, last), BEFORE, strict=True))
