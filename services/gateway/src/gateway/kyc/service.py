"""The life of a KYC request, as performers and reviewers change it. Each change is one transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import Principal
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.database.paging import Order
from safevideo_common.database.person_locks import lock_performer
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.documents.deletions import DeletionReason
from safevideo_common.documents.store import NewDocument, Step, StepStatus, StepType
from safevideo_common.domain.kyc import (
    FINAL_REASONS,
    OPEN,
    RENEWAL_WINDOW,
    KycRules,
    KycStatus,
    RejectionReason,
    Trigger,
    is_allowed,
)
from safevideo_common.domain.kyc_documents import is_complete
from safevideo_common.encryption import Cipher
from safevideo_common.errors import (
    Forbidden,
    IntegrationNotConfigured,
    InvalidKycStatus,
    KycAlreadyInProgress,
    KycRequestNotFound,
)
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.service import JobService
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.kyc.decisions import record_decision
from safevideo_common.kyc.requests import RESYNC_REQUESTED, applicant_row, lock_request, resync_job, verification_job
from safevideo_common.privacy.erasure import require_not_being_erased


@dataclass(frozen=True, slots=True)
class Submission:
    """A request as the performer makes it. `applicant` is stored encrypted."""

    document_type: str
    document_expires_on: date
    applicant: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AddedDocument:
    """The row of an upload, and whether it was the last required document."""

    id: int
    is_complete: bool


class KycService:
    """KYC requests of performers. All methods raise the errors of the database."""

    def __init__(
        self,
        database: Database,
        cipher: Cipher | None,
        clock: Clock,
        rules: KycRules,
        notify: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        """`notify` gets each enqueued job after the commit. Without `cipher` nothing can be submitted."""
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._rules = rules
        self._notify = notify

    async def submit(
        self, principal: Principal, submission: Submission, caller: Caller,
        keep: Callable[[AsyncConnection, StoredKycRequest], Awaitable[None]],
    ) -> StoredKycRequest:  # fmt: skip
        """Make a request. Of two at once, one is made. `keep` adds to its transaction.

        Raises `KycAlreadyInProgress`, `InvalidKycStatus` after a final rejection, `Forbidden` for a caller who is no
        performer of Sharegram, and `IntegrationNotConfigured` without a key to encrypt with.
        """
        cipher = self._cipher
        if cipher is None:
            raise IntegrationNotConfigured("ENCRYPTION_KEY is not set, so no personal data can be stored.")
        performer_id = performer_of(principal)
        plain = msgspec.json.encode(submission.applicant)

        async def attempt() -> StoredKycRequest:
            async with self._database.transaction() as tx:
                # All submissions of a performer wait here, since a first request has no row of its own.
                await lock_performer(tx, performer_id)
                await require_not_being_erased(tx, performer_id)
                now = self._clock()
                _check_may_submit(await kyc_requests.of_performer(tx, performer_id), now)
                request_id = await kyc_requests.submit(
                    tx,
                    performer_id,
                    document_type=submission.document_type,
                    document_expires_on=submission.document_expires_on,
                    applicant=cipher.encrypt(plain, applicant_row(performer_id)),
                    created_at=now,
                )
                await kyc_requests.supersede(tx, performer_id, request_id)
                await documents.set_step(tx, request_id, StepType.DOCUMENT_UPLOAD, StepStatus.PENDING)
                await audit_store.record(tx, caller.entry("kyc.submitted", self._clock, {"requestId": request_id}))
                stored = await _locked(tx, request_id)
                await keep(tx, stored)
                return stored

        return await retry_on_conflict(attempt)

    async def get(self, request_id: int, principal: Principal, reviewers: frozenset[Role]) -> StoredKycRequest:
        """Return a request to its owner, and to the roles `reviewers`. Raises `KycRequestNotFound`."""
        performer_id: str | None = None
        if principal.role not in reviewers:
            try:
                performer_id = performer_of(principal)
            except Forbidden:
                raise _not_found() from None
        async with self._database.read_connection() as reading:
            stored = await kyc_requests.get(reading, request_id)
        if stored is None or (performer_id is not None and stored.request.performer_id != performer_id):
            raise _not_found()
        return stored

    async def steps(self, request_id: int) -> Sequence[Step]:
        """Return the steps of a request."""
        async with self._database.read_connection() as reading:
            return await documents.steps_of(reading, request_id)

    async def pending(self, *, page: int, limit: int, order: Order) -> tuple[Sequence[StoredKycRequest], int]:
        """Return one page of the requests that wait for a person, and the number of all."""
        async with self._database.read_connection() as reading:
            return await kyc_requests.find_for_review(reading, page=page, limit=limit, order=order)

    async def add_document(self, performer_id: str, document: NewDocument, caller: Caller) -> AddedDocument:
        """Record a performer's document whose file is written. The last required one enqueues the verification, once.

        Raises `InvalidKycStatus` once the documents are complete, and `InvalidStatusTransition` once the erasure of the
        person has started.
        """

        async def attempt() -> tuple[AddedDocument, Job | None]:
            async with self._database.transaction() as tx:
                await lock_performer(tx, performer_id)
                await require_not_being_erased(tx, performer_id)
                stored = await _locked(tx, document.request_id)
                check_takes_documents(stored)
                document_id, found = await documents.replace(tx, document)
                slots = {each.document.slot for each in found if each.fault is None}
                job = await self._begin(tx, stored, caller) if is_complete(slots) else None
                return AddedDocument(document_id, job is not None), job

        uploaded, job = await retry_on_conflict(attempt)
        if job is not None:
            self._notify(job)
        return uploaded

    async def discard_file(self, request_id: int, name: str) -> None:
        """Let a file be deleted that was written for a document which was refused."""
        async with self._database.transaction() as tx:
            await deletions.record(tx, [name], request_id, DeletionReason.REFUSED, self._clock())

    async def _begin(self, tx: AsyncConnection, stored: StoredKycRequest, caller: Caller) -> Job:
        request_id, now = stored.request.id, self._clock()
        await kyc_requests.set_values(tx, request_id, status=KycStatus.IN_PROGRESS, updated_at=now)
        await documents.set_step(tx, request_id, StepType.DOCUMENT_UPLOAD, StepStatus.COMPLETED, now)
        await documents.set_step(tx, request_id, StepType.PROVIDER_SUBMISSION, StepStatus.PENDING)
        job = verification_job(request_id, stored.request.performer_id, caller.name, caller.request_id)
        return await job_admin.get(tx, (await job_admin.enqueue(tx, job)).job_id)

    async def approve(self, request_id: int, notes: str | None, caller: Caller) -> StoredKycRequest:
        """Verify a request by a person's decision. Raises `KycRequestNotFound`, `InvalidKycStatus`."""
        return await self._decide(request_id, KycStatus.VERIFIED, None, notes, caller)

    async def reject(
        self, request_id: int, reason: RejectionReason, notes: str | None, caller: Caller
    ) -> StoredKycRequest:
        """Reject a request by a person's decision. Raises `KycRequestNotFound`, `InvalidKycStatus`."""
        return await self._decide(request_id, KycStatus.REJECTED, reason, notes, caller)

    async def reopen(self, request_id: int, caller: Caller) -> StoredKycRequest:
        """Let the performer submit again after a final rejection. Raises `KycRequestNotFound`, `InvalidKycStatus`."""

        async def attempt() -> StoredKycRequest:
            async with self._database.transaction() as tx:
                stored = await _locked_with_person(tx, request_id)
                if stored.request.status is not KycStatus.REJECTED or stored.decision_reason not in FINAL_REASONS:
                    raise _invalid_status(stored, "Only a final rejection is reopened")
                await kyc_requests.set_values(tx, request_id, reopened_at=self._clock())
                await audit_store.record(tx, caller.entry("kyc.reopened", self._clock, {"requestId": request_id}))
                return await _locked(tx, request_id)

        return await retry_on_conflict(attempt)

    async def resync(
        self, request_ids: Sequence[int], caller: Caller,
        keep: Callable[[AsyncConnection, Job, Sequence[int]], Awaitable[None]],
    ) -> None:  # fmt: skip
        """Enqueue a job that fetches results. Raises `KycRequestNotFound` if there is no such request.

        `keep` gets the job and the ids that exist, in the transaction.
        """
        async with self._database.read_connection() as reading:
            accepted = await kyc_requests.existing(reading, request_ids)
        if not accepted:
            raise _not_found()

        async def also(tx: AsyncConnection, job: Job) -> None:
            await keep(tx, job, accepted)

        jobs = JobService(self._database, self._clock, self._notify)
        await jobs.enqueue(resync_job(accepted, caller.name, caller.request_id), RESYNC_REQUESTED, caller, also)

    async def _decide(
        self, request_id: int, status: KycStatus, reason: RejectionReason | None, notes: str | None, caller: Caller
    ) -> StoredKycRequest:
        async def attempt() -> StoredKycRequest:
            async with self._database.transaction() as tx:
                stored = await _locked_with_person(tx, request_id)
                before, now = stored.request, self._clock()
                is_confirmed = before.status is status and stored.review_reason is not None
                if not (is_confirmed or is_allowed(before.status, status, Trigger.PERSON)):
                    raise _invalid_status(stored, f"This request cannot become {status}")
                await record_decision(
                    tx,
                    before,
                    status,
                    now,
                    self._rules,
                    decided_by=caller.name,
                    reason=reason,
                    notes=notes,
                    correlation_id=caller.request_id,
                )
                details = {"requestId": request_id, "from": before.status, "to": status, "reason": reason}
                await audit_store.record(tx, caller.entry(f"kyc.{status}", self._clock, details))
                return await _locked(tx, request_id)

        return await retry_on_conflict(attempt)


def performer_of(principal: Principal) -> str:
    """Return Sharegram's id of the caller. Raises `Forbidden` if the caller is no performer of Sharegram."""
    if principal.performer_id is None:
        raise Forbidden("Only a performer who is linked to Sharegram has KYC requests.")
    return principal.performer_id


def check_takes_documents(stored: StoredKycRequest) -> None:
    """Raise `InvalidKycStatus` unless the request waits for documents."""
    if stored.request.status is not KycStatus.PENDING:
        raise _invalid_status(stored, "This request takes no more documents")


def _check_may_submit(earlier: Sequence[StoredKycRequest], now: datetime) -> None:
    for stored in reversed(earlier):
        status = stored.request.status
        if status in OPEN or (status is KycStatus.VERIFIED and not _is_renewable(stored, now)):
            details = {"requestId": stored.request.id, "status": status}
            raise KycAlreadyInProgress("There is an open or verified request.", details=details)
        if status is KycStatus.REJECTED and stored.decision_reason in FINAL_REASONS and stored.reopened_at is None:
            raise _invalid_status(stored, "The last request was rejected for good")


def _is_renewable(stored: StoredKycRequest, now: datetime) -> bool:
    expires_at = stored.request.expires_at
    return expires_at is not None and now >= expires_at - RENEWAL_WINDOW


async def _locked_with_person(tx: AsyncConnection, request_id: int) -> StoredKycRequest:
    """Return a request that is locked after its performer, as every act on a person locks.

    Raises `KycRequestNotFound`, and `InvalidStatusTransition` once the erasure of the person has started.
    """
    stored = await lock_request(tx, request_id)
    if stored is None:
        raise _not_found()
    await require_not_being_erased(tx, stored.request.performer_id)
    return stored


async def _locked(tx: AsyncConnection, request_id: int) -> StoredKycRequest:
    stored = await kyc_requests.get(tx, request_id, locked=True)
    if stored is None:
        raise _not_found()
    return stored


def _not_found() -> KycRequestNotFound:
    return KycRequestNotFound("There is no such KYC request.")


def _invalid_status(stored: StoredKycRequest, sentence: str) -> InvalidKycStatus:
    status = stored.request.status
    return InvalidKycStatus(f"{sentence}: it is {status}.", details={"requestId": stored.request.id, "status": status})
