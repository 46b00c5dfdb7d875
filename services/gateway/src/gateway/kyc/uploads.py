"""Uploads of documents: a form is read within its limits, its file is converted, encrypted and recorded."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from aiohttp import web

from gateway.documents.converter import ConvertedDocument, DocumentConverter
from gateway.http.form import FORM_TYPE, read_parts
from gateway.kyc.document_limits import BodyMemory, PersonQueues
from gateway.kyc.service import AddedDocument, KycService, check_takes_documents
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents.files import EncryptedFiles
from safevideo_common.documents.store import NewDocument, file_row
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES, DocumentType, Side, Slot, slot_of
from safevideo_common.errors import (
    FileRequired,
    FilesUnavailable,
    IntegrationNotConfigured,
    RequestTimedOut,
    SafeVideoError,
    ServiceUnavailable,
    ValidationFailed,
)
from safevideo_common.observability.logs import FilteringBoundLogger

MAX_FIELD_BYTES: Final = 64
MAX_FORM_BYTES: Final = MAX_DOCUMENT_BYTES + (64 << 10)
"""The body as a whole: the document, and what a form has around it."""
FORM_FIELDS: Final = ("documentType", "side")
READ_SECONDS: Final = 60.0
MAX_CONVERTED: Final = 4
"""Documents at once that are converted or stored. Of each two copies of its result are in memory, in plain and
encrypted. Its body counts for `BodyMemory` until then."""


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A form as it was sent."""

    document_type: DocumentType
    slot: Slot
    content: bytes


class UploadService:
    """Takes documents. Without `files`, since there is no key, every upload is refused."""

    def __init__(
        self,
        kyc: KycService,
        converter: DocumentConverter,
        files: EncryptedFiles | None,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._kyc = kyc
        self._converter = converter
        self._files = files
        self._clock = clock
        self._logger = logger
        self._queues = PersonQueues()
        self._memory = BodyMemory()
        self._places = asyncio.Semaphore(MAX_CONVERTED)

    def expect(self) -> None:
        """Prepare for a document that will come soon."""
        self._converter.warm()

    async def upload(
        self, request: web.Request, stored: StoredKycRequest, caller: Caller
    ) -> tuple[AddedDocument, NewDocument]:
        """Read, convert and store a document of `stored`. A repetition for the same side replaces it.

        Raises `ValidationFailed`, `FileRequired`, `UnsupportedDocument`, `PayloadTooLarge`, `RequestTimedOut`,
        `InvalidKycStatus`, `RateLimited` for a person who uploads too many at once, and `ServiceUnavailable` with no
        room, memory or disk for it.
        """
        files = self._files
        if files is None:
            raise IntegrationNotConfigured("ENCRYPTION_KEY is not set, so no document can be stored.")
        check_takes_documents(stored)
        async with self._queues.one_at_a_time(stored.request.performer_id):
            document = await self._store(request, stored, files)
            try:
                return await self._kyc.add_document(stored.request.performer_id, document, caller), document
            except ServiceUnavailable:
                raise  # the commit may have succeeded: without a row the file is deleted later
            except SafeVideoError:
                await self._discard(stored.request.id, document.file_name)
                raise

    async def _store(self, request: web.Request, stored: StoredKycRequest, files: EncryptedFiles) -> NewDocument:
        """Read, convert and write a document. Return its row, which is not written yet."""
        with self._memory.share() as share:
            form = await read_form(request, share.take)
            async with self._places:  # in the order in which they have arrived
                converted = await self._converter.convert(form.content)
                name = await self._put(files, file_row(stored.request.id, form.slot), converted)
                digest = await asyncio.to_thread(_digest, converted.content)
        return NewDocument(
            stored.request.id,
            form.slot,
            form.document_type,
            converted.kind.stored_type,
            digest,
            len(converted.content),
            name,
            self._clock(),
        )

    async def _put(self, files: EncryptedFiles, row: str, converted: ConvertedDocument) -> str:
        try:
            return await files.put(row, converted.content)
        except FilesUnavailable as error:
            self._logger.error("Document cannot be stored", code="DOCUMENT_STORE_FAILED", reason=error.message)
            raise

    async def _discard(self, request_id: int, name: str) -> None:
        try:
            await self._kyc.discard_file(request_id, name)
        except SafeVideoError as error:  # the periodic comparison finds it
            self._logger.warning("Document file not discarded", file=name, code=error.code, reason=error.message)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


async def read_form(request: web.Request, arrived: Callable[[int], None] = lambda _count: None) -> UploadForm:
    """Read a form with one file while its limits are watched. Raises as `UploadService.upload` does.

    `arrived` gets the number of bytes of each step, and may refuse them.
    """
    if request.content_type != FORM_TYPE:
        raise ValidationFailed(f"Send the document as {FORM_TYPE}.", details={"body": "no multipart form"})
    files: list[str] = []

    def limit_of(name: str) -> int:
        if name in FORM_FIELDS:
            return MAX_FIELD_BYTES
        if files:
            raise ValidationFailed("The form has more than one file.", details={name[:64]: "is not expected"})
        files.append(name)
        return MAX_DOCUMENT_BYTES

    try:
        async with asyncio.timeout(READ_SECONDS):
            parts = await read_parts(request, limit_of, MAX_FORM_BYTES, arrived)
    except TimeoutError:
        raise RequestTimedOut("The document did not arrive in time.") from None
    document_type, slot = _slot(_texts(parts))
    if not files:
        raise FileRequired("The form has no file.", details={slot.field: "is required"})
    if files != [slot.field]:
        raise ValidationFailed("The form has another file.", details={slot.field: "must be the only file"})
    return UploadForm(document_type, slot, bytes(parts[slot.field]))


def _texts(parts: Mapping[str, bytearray]) -> dict[str, str]:
    return {name: parts[name].decode(errors="replace") for name in FORM_FIELDS if name in parts}


def _slot(fields: dict[str, str]) -> tuple[DocumentType, Slot]:
    wrong: dict[str, str] = {}
    document_type, side = fields.get("documentType", ""), fields.get("side", Side.FRONT)
    if document_type not in set(DocumentType):
        wrong["documentType"] = f"must be one of {', '.join(DocumentType)}"
    if side not in set(Side):
        wrong["side"] = f"must be one of {', '.join(Side)}"
    if not wrong:
        slot = slot_of(DocumentType(document_type), Side(side))
        if slot is not None:
            return DocumentType(document_type), slot
        wrong["side"] = "this document has no back"
    raise ValidationFailed("Some fields of the form are wrong.", details=wrong)
