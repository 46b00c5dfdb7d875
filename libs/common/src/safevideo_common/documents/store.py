"""SQL of documents and of the steps of a verification. Lock the row of their request before writing.

What removes a row of a document here lets its file be deleted, in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Upsert
from safevideo_common.database.tables import kyc_documents, kyc_verification_steps
from safevideo_common.documents import deletions
from safevideo_common.documents.deletions import DeletionReason
from safevideo_common.domain.kyc_documents import DocumentType, Slot

_d: Final = kyc_documents.c
_s: Final = kyc_verification_steps.c
_SET_STEP: Final = Upsert(kyc_verification_steps, ("request_id", "step_type"), ("status", "completed_at"))


class FileFault(StrEnum):
    """A fault of the file of a document."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    """It is damaged, was swapped, or was encrypted with a key that we do not have."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document whose file is written."""

    request_id: int
    slot: Slot
    document_type: DocumentType
    media_type: str
    sha256: str
    size: int
    file_name: str
    uploaded_at: datetime


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document and the id of its row."""

    id: int
    document: NewDocument
    fault: FileFault | None = None
    """Why its file cannot be read. Then it does not count as uploaded."""


class FileRow(NamedTuple):
    """The row of a file."""

    id: int
    fault: FileFault | None


class StepType(StrEnum):
    """A step of a verification that happens here. The provider's own checks are in its result."""

    DOCUMENT_UPLOAD = "document_upload"
    PROVIDER_SUBMISSION = "provider_submission"


class StepStatus(StrEnum):
    """The state of a step."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of one request."""

    step_type: str
    status: str
    completed_at: datetime | None


def file_row(request_id: int, slot: Slot) -> str:
    """Return the name of a document's row, to which its file is bound."""
    return f"kyc-document {request_id} {slot}"


async def replace(tx: AsyncConnection, document: NewDocument) -> tuple[int, Sequence[StoredDocument]]:
    """Insert a document in place of the one in its slot, whose file is deleted after the commit.

    Return its id, and all documents that the request has now.
    """
    earlier = await of_request(tx, document.request_id)
    others = [each for each in earlier if each.document.slot is not document.slot]
    for each in earlier:
        if each not in others:
            await tx.execute(delete(kyc_documents).where(_d.id == each.id))
            await deletions.record(
                tx,
                [each.document.file_name],
                document.request_id,
                DeletionReason.REPLACED,
                document.uploaded_at,
            )
    result = await tx.execute(
        insert(kyc_documents).values(
            request_id=document.request_id,
            slot=document.slot,
            document_type=document.document_type,
            media_type=document.media_type,
            sha256=document.sha256,
            size=document.size,
            file_name=document.file_name,
            uploaded_at=document.uploaded_at,
        )
    )
    return result.lastrowid, [*others, StoredDocument(result.lastrowid, document)]


async def of_request(connection: AsyncConnection, request_id: int) -> Sequence[StoredDocument]:
    """Return the documents of a request in the order of their slots."""
    rows = await connection.execute(select(kyc_documents).where(_d.request_id == request_id).order_by(_d.slot))
    return [_stored(row) for row in rows]


async def get(connection: AsyncConnection, document_id: int) -> StoredDocument | None:
    """Return a document, or None."""
    row = (await connection.execute(select(kyc_documents).where(_d.id == document_id))).one_or_none()
    return None if row is None else _stored(row)


async def remove_of_request(tx: AsyncConnection, request_id: int, now: datetime) -> int:
    """Delete the rows of a request's documents. Their files are deleted after the commit. Return their number."""
    names = list(await tx.scalars(select(_d.file_name).where(_d.request_id == request_id)))
    await deletions.record(tx, names, request_id, DeletionReason.REMOVED, now)
    await tx.execute(delete(kyc_documents).where(_d.request_id == request_id))
    return len(names)


async def named_files(reading: AsyncConnection, names: Iterable[str]) -> Set[str]:
    """Return those of these files that a row names."""
    found: set[str] = set()
    for chunk in chunks(names):
        found.update(await reading.scalars(select(_d.file_name).where(_d.file_name.in_(chunk))))
    return found


async def files_of_rows(reading: AsyncConnection, digit: str) -> Mapping[str, FileRow]:
    """Return the rows whose files have names that begin with `digit`, by the name of the file."""
    query = select(_d.file_name, _d.id, _d.file_fault).where(_d.file_name.like(f"{digit}%"))
    return {name: FileRow(row_id, fault and FileFault(fault)) for name, row_id, fault in await reading.execute(query)}


async def set_fault(tx: AsyncConnection, document_ids: Iterable[int], fault: FileFault | None) -> int:
    """Write what is wrong with the files of documents. Return the number of rows that are still there."""
    changed = 0
    for chunk in chunks(document_ids):
        written = await tx.execute(update(kyc_documents).where(_d.id.in_(chunk)).values(file_fault=fault))
        changed += written.rowcount
    return changed


async def count_faulty(reading: AsyncConnection) -> int:
    """Return the number of documents whose files cannot be read."""
    return await reading.scalar(select(func.count()).where(_d.file_fault.is_not(None))) or 0


async def set_step(
    tx: AsyncConnection, request_id: int, step_type: StepType, status: StepStatus, completed_at: datetime | None = None
) -> None:
    """Write the state of a step."""
    row = {"request_id": request_id, "step_type": step_type, "status": status, "completed_at": completed_at}
    await tx.execute(_SET_STEP.statement(tx.dialect), [row])


async def steps_of(connection: AsyncConnection, request_id: int) -> Sequence[Step]:
    """Return the steps of a request in the order in which they began."""
    rows = await connection.execute(
        select(_s.step_type, _s.status, _s.completed_at).where(_s.request_id == request_id).order_by(_s.id)
    )
    return [Step(*row) for row in rows]


def _stored(row: Row[*tuple[object, ...]]) -> StoredDocument:
    return StoredDocument(
        row.id,
        NewDocument(
            row.request_id,
            Slot(row.slot),
            DocumentType(row.document_type),
            row.media_type,
            row.sha256,
            row.size,
            row.file_name,
            row.uploaded_at,
        ),
        row.file_fault and FileFault(row.file_fault),
    )
