"""`/api/v1/kyc/{id}/submission` and its documents: personal data, for the owner and reviewers only (contract, §4).

Each reading is in the audit log before a byte is sent. To a stranger a request does not exist.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, TypedDict

import msgspec
from aiohttp import web
from aiohttp.hdrs import METH_HEAD

from gateway.http.caller import caller_of
from gateway.http.endpoint import Endpoint, Returns, Shape
from gateway.http.query import row_id_of
from gateway.kyc.api import PATH, READERS, REVIEWERS
from gateway.kyc.document_limits import PersonQueues
from gateway.kyc.service import KycService
from safevideo_common.audit import store as audit_store
from safevideo_common.auth.principal import PRINCIPAL, Principal
from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents import store as documents
from safevideo_common.documents.files import DocumentUnreadable, EncryptedFiles
from safevideo_common.documents.store import StoredDocument, file_row
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import IntegrationNotConfigured, KycRequestNotFound, NotFound, Overloaded
from safevideo_common.kyc.requests import applicant_row
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.responses import success

SUBMISSION_READ: Final = "kyc.submission_read"
DOCUMENT_READ: Final = "kyc.document_read"
MAX_READINGS: Final = 8
"""Documents at once in a process, from the reading of the file to the last byte that is sent.

Each is decrypted in memory: its tag is checked before a byte of it is sent.
"""
SEND_SECONDS: Final = 60.0
PIECE_BYTES: Final = 64 << 10
"""What is written at once. Then the client has to read."""
RETRY_AFTER_SECONDS: Final = 2
_EXTENSIONS: Final = {"image/jpeg": "jpg", "application/pdf": "pdf"}


class DocumentSummaryDocument(TypedDict):
    """A stored document. `size` is in bytes."""

    documentId: int
    documentType: str
    slot: str
    mediaType: str
    size: int
    uploadedAt: TimestampText


class SubmissionDocument(TypedDict):
    """A submission and its documents. `applicant` is null once it was deleted."""

    requestId: int
    performerId: str
    status: str
    applicant: dict[str, Any] | None
    documents: list[DocumentSummaryDocument]


_EXAMPLE: Final[SubmissionDocument] = {
    "requestId": 123,
    "performerId": "sg_ada",
    "status": "in_review",
    "applicant": {"firstName": "Ada", "lastName": "Lovelace", "documentNumber": "AB 123456"},
    "documents": [
        {
            "documentId": 7,
            "documentType": "passport",
            "slot": "id_front",
            "mediaType": "image/jpeg",
            "size": 81234,
            "uploadedAt": "2026-11-24T20:58:25.123Z",
        }
    ],
}


class KycRecordsApi:
    """The endpoints that show personal data of a request. Without `cipher` and `files` they are not configured."""

    def __init__(
        self,
        kyc: KycService,
        database: Database,
        cipher: Cipher | None,
        files: EncryptedFiles | None,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._kyc = kyc
        self._database = database
        self._cipher = cipher
        self._files = files
        self._clock = clock
        self._logger = logger
        self._active = 0
        self._queues = PersonQueues()

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        errors = (KycRequestNotFound, IntegrationNotConfigured, DocumentUnreadable)
        return [
            Endpoint(
                "GET", f"{PATH}/{{id}}/submission", self.submission, READERS, Returns(SubmissionDocument, _EXAMPLE),
                errors,
            ),
            Endpoint(
                "GET", f"{PATH}/{{id}}/documents/{{document}}", self.document, READERS,
                Returns(None, None, shape=Shape.FILE), (*errors, NotFound),
            ),
        ]  # fmt: skip

    async def submission(self, request: web.Request) -> web.Response:
        """Return what was submitted, with the number of the identity document, and the list of documents.

        Raises `KycRequestNotFound`, also for a request of somebody else.
        """
        stored = await self._readable(request)
        applicant = self._applicant(stored)
        async with self._database.transaction() as tx:
            found = await documents.of_request(tx, stored.request.id)
            details = {"requestId": stored.request.id}
            await audit_store.record(
                tx, caller_of(request).entry(SUBMISSION_READ, self._clock, details, _target(stored))
            )
        document: SubmissionDocument = {
            "requestId": stored.request.id,
            "performerId": stored.request.performer_id,
            "status": stored.request.status,
            "applicant": applicant,
            "documents": [_summary(each) for each in found],
        }
        return success(document)

    async def document(self, request: web.Request) -> web.StreamResponse:
        """Send a document as it is stored: a JPEG or a PDF, to be saved and not shown in the page.

        Raises `KycRequestNotFound`, `NotFound` for another request's document, `DocumentUnreadable`, `RateLimited` for
        a performer who reads too many at once.
        """
        document_id = row_id_of(request, "document")
        stored = await self._readable(request)
        if self._files is None:
            raise _not_configured()
        async with self._in_order(request[PRINCIPAL]), self._counted():
            async with self._database.transaction() as tx:
                found = await documents.get(tx, document_id)
                if found is None or found.document.request_id != stored.request.id:
                    raise NotFound("There is no such document.")
                details = {"requestId": stored.request.id, "documentId": found.id, "slot": found.document.slot}
                entry = caller_of(request).entry(DOCUMENT_READ, self._clock, details, _target(stored))
                await audit_store.record(tx, entry)
            try:
                content = await self._files.get(
                    file_row(stored.request.id, found.document.slot), found.document.file_name
                )
            except DocumentUnreadable as error:
                self._log_unreadable(error, stored)
                raise
            return await _send(request, content, _headers(found))

    def _in_order(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Let a performer read one document after the other. Reviewers are few, and may share a key of a system."""
        return nullcontext() if principal.role in REVIEWERS else self._queues.one_at_a_time(principal.name)

    async def _readable(self, request: web.Request) -> StoredKycRequest:
        return await self._kyc.get(row_id_of(request), request[PRINCIPAL], REVIEWERS)

    def _applicant(self, stored: StoredKycRequest) -> dict[str, Any] | None:
        if stored.applicant is None:
            return None
        if self._cipher is None:
            raise _not_configured()
        try:
            plain = self._cipher.decrypt(stored.applicant, applicant_row(stored.request.performer_id))
        except DecryptionFailed as error:
            unreadable = DocumentUnreadable(f"The submission cannot be decrypted. {error.message}")
            self._log_unreadable(unreadable, stored)
            raise unreadable from None
        return msgspec.json.decode(plain, type=dict[str, Any])

    def _log_unreadable(self, error: DocumentUnreadable, stored: StoredKycRequest) -> None:
        self._logger.error(
            "KYC document unreadable", code=error.code, kyc_request=stored.request.id, reason=error.message
        )

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._active >= MAX_READINGS:
            raise Overloaded("Too many documents are being read.", retry_after=RETRY_AFTER_SECONDS)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1


async def _send(request: web.Request, content: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Send a document piece by piece. A client that does not read it in time loses its connection."""
    response = web.StreamResponse(headers=headers)
    response.content_length = len(content)
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            if request.method != METH_HEAD:
                for start in range(0, len(content), PIECE_BYTES):
                    await response.write(content[start : start + PIECE_BYTES])
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


def _not_configured() -> IntegrationNotConfigured:
    return IntegrationNotConfigured("ENCRYPTION_KEY is not set, so no document can be read.")


def _target(stored: StoredKycRequest) -> str:
    return f"kyc_request:{stored.request.id}"


def _summary(stored: StoredDocument) -> DocumentSummaryDocument:
    document = stored.document
    return {
        "documentId": stored.id,
        "documentType": document.document_type,
        "slot": document.slot,
        "mediaType": document.media_type,
        "size": document.size,
        "uploadedAt": rfc3339(document.uploaded_at),
    }


def _headers(stored: StoredDocument) -> dict[str, str]:
    """Return headers with which a browser saves the file, whatever is in it. The name is made of our own words."""
    document = stored.document
    name = f"kyc-{document.request_id}-{document.slot.replace('_', '-')}.{_EXTENSIONS.get(document.media_type, 'bin')}"
    return {
        "Content-Type": document.media_type,
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
