"""Uploads of documents: a form is read within its limits, its file is converted, encrypted and recorded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from aiohttp import BodyPartReader, web

from gateway.documents.converter import DocumentConverter
from gateway.kyc.service import AddedDocument, KycService, check_takes_documents
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents.files import EncryptedFiles
from safevideo_common.documents.store import NewDocument, file_row
from safevideo_common.domain.kyc_documents import DocumentType, Side, Slot, slot_of
from safevideo_common.errors import (
    FileRequired,
    FilesUnavailable,
    IntegrationNotConfigured,
    Overloaded,
    PayloadTooLarge,
    RequestTimedOut,
    SafeVideoError,
    ServiceUnavailable,
    ValidationFailed,
)
from safevideo_common.observability.logs import FilteringBoundLogger

MAX_DOCUMENT_BYTES: Final = 10 << 20
MAX_FIELD_BYTES: Final = 64
FORM_FIELDS: Final = ("documentType", "side")
READ_SECONDS: Final = 60.0
MAX_UPLOADS: Final = 24
"""Uploads at once in a process. Each has its bytes in memory."""
RETRY_AFTER_SECONDS: Final = 5


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
        self._active = 0

    def expect(self) -> None:
        """Prepare for a document that will come soon."""
        self._converter.warm()

    async def upload(
        self, request: web.Request, stored: StoredKycRequest, caller: Caller
    ) -> tuple[AddedDocument, NewDocument]:
        """Read, convert and store a document of `stored`. A repetition for the same side replaces it.

        Raises `ValidationFailed`, `FileRequired`, `UnsupportedDocument`, `PayloadTooLarge`, `RequestTimedOut`,
        `InvalidKycStatus`, and `ServiceUnavailable` with no room, memory or disk for it.
        """
        files = self._files
        if files is None:
            raise IntegrationNotConfigured("ENCRYPTION_KEY is not set, so no document can be stored.")
        check_takes_documents(stored)
        async with self._counted():
            form = await read_form(request)
            converted = await self._converter.convert(form.content)
            try:
                name = await files.put(file_row(stored.request.id, form.slot), converted.content)
            except FilesUnavailable as error:
                self._logger.error("Document cannot be stored", code="DOCUMENT_STORE_FAILED", reason=error.message)
                raise
        digest = await asyncio.to_thread(_digest, converted.content)
        document = NewDocument(
            stored.request.id,
            form.slot,
            form.document_type,
            converted.kind.stored_type,
            digest,
            len(converted.content),
            name,
            self._clock(),
        )
        try:
            return await self._kyc.add_document(stored.request.performer_id, document, caller), document
        except ServiceUnavailable:
            raise  # the commit may have succeeded: without a row the file is deleted later
        except SafeVideoError:
            await self._discard(stored.request.id, name)
            raise

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._active >= MAX_UPLOADS:
            raise Overloaded("Too many documents are being uploaded.", retry_after=RETRY_AFTER_SECONDS)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def _discard(self, request_id: int, name: str) -> None:
        try:
            await self._kyc.discard_file(request_id, name)
        except SafeVideoError as error:  # the periodic comparison finds it
            self._logger.warning("Document file not discarded", file=name, code=error.code, reason=error.message)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


async def read_form(request: web.Request) -> UploadForm:
    """Read a form with one file while its limits are watched. Raises as `UploadService.upload` does."""
    if request.content_type != "multipart/form-data":
        raise ValidationFailed("Send the document as multipart/form-data.", details={"body": "no multipart form"})
    try:
        async with asyncio.timeout(READ_SECONDS):
            fields, files = await _read_parts(request)
    except TimeoutError:
        raise RequestTimedOut("The document did not arrive in time.") from None
    except (ValueError, AssertionError, LookupError):
        raise ValidationFailed("The form is not well-formed.", details={"body": "no multipart form"}) from None
    document_type, slot = _slot(fields)
    if not files:
        raise FileRequired("The form has no file.", details={slot.field: "is required"})
    if list(files) != [slot.field]:
        raise ValidationFailed("The form has another file.", details={slot.field: "must be the only file"})
    return UploadForm(document_type, slot, files[slot.field])


async def _read_parts(request: web.Request) -> tuple[dict[str, str], dict[str, bytes]]:
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None or part.name in {*fields, *files}:
            raise ValueError("a part is nested, without a name, or given more than once")
        if part.name in FORM_FIELDS:
            fields[part.name] = (await _read_part(part, MAX_FIELD_BYTES)).decode()
        elif files:
            raise ValidationFailed("The form has more than one file.", details={part.name[:64]: "is not expected"})
        else:
            files[part.name] = await _read_part(part, MAX_DOCUMENT_BYTES)
    return fields, files


async def _read_part(part: BodyPartReader, limit: int) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        content += chunk
        if len(content) > limit:
            raise PayloadTooLarge(f"{part.name or 'A part'} is over {limit} bytes."[:200], details={"limit": limit})
    return bytes(content)


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
