"""The job `kyc_verification`: sends the documents of a request to Sharegram, and begins the verification.

Each step is saved before the next, and each call has a key that depends on the request and on the content of its
documents. So a worker that takes over after a kill sends the same bytes under the same keys, and Sharegram does the
work once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

import msgspec

from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import DocumentMissing, DocumentUnreadable, EncryptedFiles
from safevideo_common.documents.store import FileFault, StepStatus, StepType, StoredDocument, file_row
from safevideo_common.domain.kyc import KycRules, KycStatus, Trigger, is_allowed
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import DatabaseConflict
from safevideo_common.events.topics import KYC_WORKER
from safevideo_common.inbox.store import retries as inbox_retries
from safevideo_common.jobs.handler import JobContext, PermanentJobError
from safevideo_common.kyc.decisions import record_decision
from safevideo_common.kyc.requests import applicant_row
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import DocumentFile, SharegramClient
from safevideo_common.sharegram.errors import SharegramRejected
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.operations import START_VERIFICATION, SharegramCaller

KEY_LIFE: Final = timedelta(hours=24)
"""So long Sharegram remembers an idempotency key. A call that is older may have a second effect."""
OUTCOME_UNKNOWN: Final = "OUTCOME_UNKNOWN"
UPLOADED: Final = "uploaded"
MAX_DOCUMENTS: Final = 8
"""Documents at once in a process. Each is in memory, with its form around it: it is signed and sent as a whole."""


@dataclass(frozen=True, slots=True)
class LoadedSubmission:
    """A request with everything that is sent for it."""

    stored: StoredKycRequest
    documents: Sequence[StoredDocument]

    @property
    def digest(self) -> str:
        """Return what the key of the verification depends on: all documents."""
        return sha256(" ".join(each.document.sha256 for each in self.documents).encode()).hexdigest()[:32]


class SubmissionJob:
    """The handler. It gives a request to a person when Sharegram refuses it, or when a repetition is not safe."""

    def __init__(
        self,
        database: Database,
        files: EncryptedFiles,
        cipher: Cipher,
        sharegram: SharegramClient,
        keys: StoredIdempotencyKeys,
        rules: KycRules,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._files = files
        self._cipher = cipher
        self._sharegram = sharegram
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._logger = logger
        self._places = asyncio.Semaphore(MAX_DOCUMENTS)

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`."""
        submission = await self._load(job)
        request = submission.stored.request
        if request.verification_id is not None or request.status is not KycStatus.IN_PROGRESS:
            return {"status": request.status, "verificationId": request.verification_id}
        work = f"kyc-verification:{request.id}:{submission.digest}"
        first_sent = await self._keys.reserved_at(START_VERIFICATION, work)
        if first_sent is not None and self._clock() - first_sent > KEY_LIFE:
            self._logger.error("KYC verification has an unknown outcome", code=OUTCOME_UNKNOWN, kyc_request=request.id)
            return await self._give_to_person(job, submission, OUTCOME_UNKNOWN)
        try:
            uploaded = await self._upload(job, submission)
            fields = self._applicant(submission) | {"documents": uploaded}
            started = await self._sharegram.start_verification(
                SharegramCaller.job(job.request_id),
                work=work,
                performer_id=request.performer_id,
                fields=fields,
            )
        except SharegramRejected as error:
            self._logger.error(
                "KYC request refused by Sharegram",
                code=error.code,
                kyc_request=request.id,
                status=error.sharegram_status,
            )
            return await self._give_to_person(job, submission, error.code)
        except DocumentUnreadable as error:
            self._logger.error("KYC document unreadable", code=error.code, kyc_request=request.id, reason=error.message)
            raise PermanentJobError(error.code, error.message) from None
        return await self._save(job, request.id, started.verification_id)

    async def _load(self, job: JobContext) -> LoadedSubmission:
        request_id = job.parameters.get("requestId")
        if not isinstance(request_id, int):
            raise PermanentJobError("PARAMETERS_INVALID", "requestId must be a number")
        async with self._database.read_connection() as reading:
            stored = await kyc_requests.get(reading, request_id)
            found = await documents.of_request(reading, request_id)
        if stored is None:
            raise PermanentJobError("KYC_REQUEST_NOT_FOUND", "there is no such request")
        return LoadedSubmission(stored, found)

    async def _upload(self, job: JobContext, submission: LoadedSubmission) -> Sequence[Mapping[str, str]]:
        """Upload the documents that the cursor does not have. Return the ids of all."""
        request = submission.stored.request
        done = (job.cursor or {}).get(UPLOADED)
        uploaded: dict[str, str] = dict(done) if isinstance(done, dict) else {}
        for each in submission.documents:
            document = each.document
            if document.sha256 in uploaded:
                continue
            async with self._places:
                content = await self._read(job, each)
                answer = await self._sharegram.upload_document(
                    SharegramCaller.job(job.request_id),
                    work=f"kyc-document:{request.id}:{document.slot}:{document.sha256[:32]}",
                    document=DocumentFile(document.slot.field, document.media_type, content),
                    form={"performerId": request.performer_id, "documentType": document.document_type},
                )
                del content
            uploaded[document.sha256] = answer.document_id
            async with job.step(
                {UPLOADED: dict(uploaded)}, processed=len(uploaded), total=len(submission.documents) + 1
            ):
                pass
        return [
            {"slot": each.document.slot, "documentId": uploaded[each.document.sha256]} for each in submission.documents
        ]

    async def _read(self, job: JobContext, stored: StoredDocument) -> bytes:
        """Return the content. The row says from now on whether it could be read. Raises `DocumentUnreadable`."""
        document = stored.document
        try:
            content = await self._files.get(file_row(document.request_id, document.slot), document.file_name)
        except DocumentUnreadable as error:
            fault = FileFault.MISSING if isinstance(error, DocumentMissing) else FileFault.UNREADABLE
            async with job.step() as tx:
                await documents.set_fault(tx, [stored.id], fault)
            raise
        if stored.fault is not None:
            async with job.step() as tx:
                await documents.set_fault(tx, [stored.id], None)
        return content

    def _applicant(self, submission: LoadedSubmission) -> dict[str, object]:
        stored = submission.stored
        if stored.applicant is None:
            raise PermanentJobError("APPLICANT_MISSING", "the request has no applicant")
        try:
            plain = self._cipher.decrypt(stored.applicant, applicant_row(stored.request.performer_id))
        except DecryptionFailed as error:
            raise DocumentUnreadable(f"The applicant cannot be decrypted. {error.message}") from None
        return msgspec.json.decode(plain, type=dict[str, object])

    async def _save(self, job: JobContext, request_id: int, verification_id: str) -> Mapping[str, object]:
        """Store the verification. Results that came before it are tried again at once."""
        now = self._clock()
        try:
            async with job.step() as tx:
                stored = await kyc_requests.get(tx, request_id, locked=True)
                if stored is not None and stored.request.verification_id is None:
                    await kyc_requests.set_values(tx, request_id, verification_id=verification_id, updated_at=now)
                    await documents.set_step(tx, request_id, StepType.PROVIDER_SUBMISSION, StepStatus.COMPLETED, now)
                    await inbox_retries.make_due(tx, KYC_WORKER, stored.request.performer_id, now)
        except DatabaseConflict:
            async with self._database.read_connection() as reading:
                if await kyc_requests.load(reading, [verification_id]):
                    raise PermanentJobError(
                        "VERIFICATION_TAKEN", "another request has the verification that Sharegram answered"
                    ) from None
            raise
        return {"verificationId": verification_id}

    async def _give_to_person(self, job: JobContext, submission: LoadedSubmission, code: str) -> Mapping[str, object]:
        now, request_id = self._clock(), submission.stored.request.id
        async with job.step() as tx:
            stored = await kyc_requests.get(tx, request_id, locked=True)
            if stored is not None and is_allowed(stored.request.status, KycStatus.IN_REVIEW, Trigger.FAILURE):
                await documents.set_step(tx, request_id, StepType.PROVIDER_SUBMISSION, StepStatus.FAILED, now)
                await record_decision(
                    tx,
                    stored.request,
                    KycStatus.IN_REVIEW,
                    now,
                    self._rules,
                    decided_by=job.job_type,
                    correlation_id=job.request_id,
                )
        return {"status": KycStatus.IN_REVIEW, "reason": code}
