"""The documents that kyc-worker sends: how many are in memory at once, however many jobs run."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest
from cryptography.fernet import Fernet

from kyc_worker.verifications.submission_job import MAX_DOCUMENTS, SubmissionJob
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import EncryptedFiles, FolderStore
from safevideo_common.documents.store import NewDocument, file_row
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.domain.kyc_documents import DocumentType, Slot
from safevideo_common.encryption import Cipher, EncryptionKeys, Purpose
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.kyc.requests import applicant_row
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import DocumentFile, SharegramClient
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.operations import StartedVerification, UploadedDocument
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import QUICK, JobHarness
from safevideo_testkit.stacks import StackUnderTest

REQUESTS = 2 * MAX_DOCUMENTS
JOB = "kyc_verification"


class SlowSharegram:
    """A stand-in that answers no upload before it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.waiting = 0
        self.most = 0

    async def upload_document(
        self, _caller: object, *, work: str, document: DocumentFile, form: Mapping[str, str]
    ) -> UploadedDocument:
        assert document.content
        assert form
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.may_answer.wait()
        self.waiting -= 1
        return UploadedDocument(document_id=sha256(work.encode()).hexdigest()[:32], status="stored")

    async def start_verification(self, _caller: object, *, work: str, **_: object) -> StartedVerification:
        return StartedVerification(verification_id=sha256(work.encode()).hexdigest()[:32], status="started")


async def submitted(database: Database, files: EncryptedFiles, applicants: Cipher, number: int) -> int:
    name, now = f"sg_{number}", utc_now()
    applicant = applicants.encrypt(b"{}", applicant_row(name))
    async with database.transaction() as tx:
        request_id = await kyc_requests.submit(
            tx,
            name,
            document_type="passport",
            document_expires_on=date(2060, 1, 1),
            applicant=applicant,
            created_at=now,
        )
        content = f"document {number}".encode()
        file = await files.put(file_row(request_id, Slot.ID_FRONT), content)
        await documents.replace(
            tx,
            NewDocument(
                request_id, Slot.ID_FRONT, DocumentType.PASSPORT, "image/jpeg", sha256(content).hexdigest(),
                len(content), file, now,
            ),
        )  # fmt: skip
        await kyc_requests.set_values(tx, request_id, status=KycStatus.IN_PROGRESS)
    return request_id


@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
async def test_jobs_have_a_bounded_number_of_documents_in_memory(
    stack: StackUnderTest, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    keys = EncryptionKeys.parse(Fernet.generate_key().decode())
    files = EncryptedFiles(FolderStore(tmp_path), keys.cipher(Purpose.KYC_DOCUMENT))
    applicants, sharegram = keys.cipher(Purpose.KYC_APPLICANT), SlowSharegram()
    async with Database.open(stack.database_url) as database:
        stored_keys = StoredIdempotencyKeys(database, utc_now)
        handler = SubmissionJob(
            database, files, applicants, cast(SharegramClient, sharegram), stored_keys, KycRules(), utc_now, log
        )
        jobs = JobHarness(database, log)
        async with jobs.running({JOB: handler}, replace(QUICK, slots=REQUESTS)):
            ids = [await submitted(database, files, applicants, number) for number in range(REQUESTS)]
            enqueued = [await jobs.enqueue(NewJob(JOB, {"requestId": each})) for each in ids]

            async def all_run() -> bool:
                states = [(await jobs.job(each)).status for each in enqueued]
                return set(states) == {JobStatus.PROCESSING} and sharegram.waiting >= MAX_DOCUMENTS

            await eventually(all_run)
            sharegram.may_answer.set()
            for each in enqueued:
                await jobs.wait_for_status(each, JobStatus.COMPLETED)
    assert sharegram.most == MAX_DOCUMENTS
