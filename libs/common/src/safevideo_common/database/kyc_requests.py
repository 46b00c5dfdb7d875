"""KYC requests: written by the gateway and kyc-worker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, exists, func, insert, or_, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert, for_update, for_update_skip_locked, force_index
from safevideo_common.database.paging import Order, find_page
from safevideo_common.database.tables import kyc_documents, kyc_requests, kyc_verification_steps
from safevideo_common.domain.kyc import ENDED, KycRequest, KycStatus, ManualDecision, RejectionReason, ReviewReason
from safevideo_common.domain.ordering import WriteVersion


@dataclass(frozen=True, slots=True)
class StoredKycRequest:
    """A request with the columns that the provider's results do not change."""

    request: KycRequest
    created_at: datetime
    updated_at: datetime
    document_type: str | None
    applicant: bytes | None
    """What the performer submitted, encrypted; None in a request that was not made here."""
    decision_reason: RejectionReason | None
    reopened_at: datetime | None
    review_reason: ReviewReason | None
    """Why a person must look at the request again, whatever its status is."""


_c: Final = kyc_requests.c
_HAS_ID: Final = _c.verification_id.in_(bindparam("verification_ids", expanding=True))
# By this index, because the server locks each row that it reads on the way.
_INDEX: Final = "uq_kyc_requests_verification"
_BY_VERIFICATION: Final = force_index(
    select(kyc_requests).where(_HAS_ID).order_by(_c.verification_id), kyc_requests, _INDEX
)
_LOCKED: Final = for_update(_BY_VERIFICATION)
_IDS: Final = force_index(select(_c.verification_id).where(_HAS_ID), kyc_requests, _INDEX)
_UNLOCKED_IDS: Final = for_update_skip_locked(_IDS)
_RESULT_COLUMNS: Final = ("status", "risk_score", "result", "result_version", "result_at", "result_arrival")
_OUR_COLUMNS: Final = (
    "change_sequence", "decision_status", "decision_at", "decision_basis", "expires_at", "decision_version",
    "expiry_due_at",
)  # fmt: skip
_UPDATE: Final = Bulk(
    Upsert(kyc_requests, ("id",), (*_RESULT_COLUMNS, "updated_at", *_OUR_COLUMNS)),
    ("id", "performer_id", "verification_id", *_RESULT_COLUMNS, "created_at", "updated_at", *_OUR_COLUMNS),
)
_WAITS_FOR_PERSON: Final = or_(_c.status == KycStatus.IN_REVIEW, _c.review_reason.is_not(None))
REPLACEABLE: Final = frozenset({KycStatus.VERIFIED, KycStatus.IN_REVIEW})
"""A later request that becomes verified ends these."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def load_for_update(tx: AsyncConnection, verification_ids: Iterable[str]) -> Mapping[str, KycRequest]:
    """Return the existing requests by verification id, locked until the transaction ends."""
    return await _load(tx, _LOCKED, verification_ids)


async def locked(tx: AsyncConnection, verification_ids: Iterable[str]) -> set[str]:
    """Return those requests that another transaction has locked. Waits for no lock; locks the others."""
    found: set[str] = set()
    for chunk in chunks(verification_ids):
        existing = set(await tx.scalars(_IDS, {"verification_ids": chunk}))
        found |= existing - set(await tx.scalars(_UNLOCKED_IDS, {"verification_ids": chunk}))
    return found


async def load(connection: AsyncConnection, verification_ids: Iterable[str]) -> Mapping[str, KycRequest]:
    """Return the existing requests by verification id, without locks: they may be outdated."""
    return await _load(connection, _BY_VERIFICATION, verification_ids)


async def expecting_verification(connection: AsyncConnection, performer_ids: Iterable[str]) -> frozenset[str]:
    """Return those performers who have a request in progress without a verification."""
    found: set[str] = set()
    for chunk in chunks(performer_ids):
        query = select(_c.performer_id).where(
            _c.performer_id.in_(chunk), _c.status == KycStatus.IN_PROGRESS, _c.verification_id.is_(None)
        )
        found |= set(await connection.scalars(query))
    return frozenset(found)


async def update(tx: AsyncConnection, changed: Iterable[KycRequest], now: datetime) -> None:
    """Write requests that `load_for_update` returned, with their decisions, in one statement."""
    # The rows exist and are locked, so it never inserts.
    await _UPDATE.execute(tx, (_row(request, now) for request in changed))


async def insert_request(
    tx: AsyncConnection, performer_id: str, verification_id: str, status: KycStatus, created_at: datetime
) -> int:
    """Insert a request and return its id. Raises `DatabaseConflict` if the verification has one already."""
    result = await tx.execute(
        insert(kyc_requests).values(
            performer_id=performer_id,
            verification_id=verification_id,
            status=status,
            created_at=created_at,
            updated_at=created_at,
        )
    )
    return result.lastrowid


async def submit(
    tx: AsyncConnection,
    performer_id: str,
    *,
    document_type: str,
    document_expires_on: date,
    applicant: bytes,
    created_at: datetime,
) -> int:
    """Insert a request that waits for its documents, and return its id."""
    result = await tx.execute(
        insert(kyc_requests).values(
            performer_id=performer_id,
            status=KycStatus.PENDING,
            document_type=document_type,
            document_expires_on=document_expires_on,
            applicant=applicant,
            created_at=created_at,
            updated_at=created_at,
        )
    )
    return result.lastrowid


async def get(connection: AsyncConnection, request_id: int, *, locked: bool = False) -> StoredKycRequest | None:
    """Return a request, or None; if `locked`, lock its row until the transaction ends."""
    query = select(kyc_requests).where(_c.id == request_id)
    row = (await connection.execute(for_update(query) if locked else query)).one_or_none()
    return None if row is None else _stored(row)


async def of_performer(tx: AsyncConnection, performer_id: str) -> Sequence[StoredKycRequest]:
    """Return the requests of a performer, the oldest first, and lock them."""
    query = select(kyc_requests).where(_c.performer_id == performer_id).order_by(_c.id)
    return [_stored(row) for row in await tx.execute(for_update(query))]


async def is_verified(tx: AsyncConnection, performer_id: str) -> bool:
    """Return whether the performer has a verified request."""
    query = select(_c.id).where(_c.performer_id == performer_id, _c.status == KycStatus.VERIFIED).limit(1)
    return await tx.scalar(query) is not None


async def find_for_review(
    reading: AsyncConnection, *, page: int, limit: int, order: Order
) -> tuple[Sequence[StoredKycRequest], int]:
    """Return one page of the requests that wait for a person, by their age, and the number of all."""
    query = select(kyc_requests).where(_WAITS_FOR_PERSON)
    rows, total = await find_page(reading, query, (_c.created_at, _c.id), page=page, limit=limit, order=order)
    return [_stored(row) for row in rows], total


async def in_progress_since(reading: AsyncConnection, before: datetime, after: int, limit: int) -> list[int]:
    """Return the ids over `after`, in order, of requests that have been in progress since before `before`."""
    is_late = (_c.status == KycStatus.IN_PROGRESS, _c.updated_at < before)
    return list(await reading.scalars(select(_c.id).where(*is_late, _c.id > after).order_by(_c.id).limit(limit)))


async def with_data_decided_before(
    reading: AsyncConnection, before: Mapping[KycStatus, datetime], after: int, limit: int
) -> list[int]:
    """Return the ids over `after`, in order, of requests that still have data and have not changed for long.

    `before` has the time for each status. An abandoned request is among them at once: only a hold keeps its data.
    """
    is_old = or_(_is_abandoned(), *(and_(_c.status == status, _c.updated_at < at) for status, at in before.items()))
    has_data = or_(_c.applicant.is_not(None), exists().where(kyc_documents.c.request_id == _c.id))
    return list(
        await reading.scalars(select(_c.id).where(is_old, has_data, _c.id > after).order_by(_c.id).limit(limit))
    )


async def is_abandoned(tx: AsyncConnection, request_id: int) -> bool:
    """Return whether the request expired for want of documents. It was never verified."""
    return await tx.scalar(select(_c.id).where(_c.id == request_id, _is_abandoned())) is not None


def _is_abandoned() -> ColumnElement[bool]:
    upload = kyc_verification_steps.c
    lacks_documents = exists().where(
        upload.request_id == _c.id, upload.step_type == "document_upload", upload.status == "pending"
    )
    return and_(_c.status == KycStatus.EXPIRED, lacks_documents)


async def expiry_due(reading: AsyncConnection, now: datetime, after: int, limit: int) -> list[int]:
    """Return the ids over `after` of verified requests whose warning or end is due, or whose end is unknown."""
    is_due = or_(_c.expiry_due_at.is_(None), _c.expiry_due_at <= now)
    query = select(_c.id).where(_c.status == KycStatus.VERIFIED, is_due, _c.id > after).order_by(_c.id).limit(limit)
    return list(await reading.scalars(query))


async def without_documents_since(reading: AsyncConnection, before: datetime, after: int, limit: int) -> list[int]:
    """Return the ids over `after` of requests that were submitted before `before` and still lack documents."""
    is_late = (_c.status == KycStatus.PENDING, _c.created_at < before)
    return list(await reading.scalars(select(_c.id).where(*is_late, _c.id > after).order_by(_c.id).limit(limit)))


async def replaceable_of(reading: AsyncConnection, performer_ids: Iterable[str]) -> list[KycRequest]:
    """Return the requests of performers that a later verified one ends, without locks: verified or in review."""
    found: list[KycRequest] = []
    for chunk in chunks(performer_ids):
        query = select(kyc_requests).where(_c.performer_id.in_(chunk), _c.status.in_(REPLACEABLE))
        found += [_request(row) for row in await reading.execute(query.order_by(_c.id))]
    return found


async def supersede(tx: AsyncConnection, performer_id: str, later_id: int) -> None:
    """Write that `later_id` took the place of the requests before it that have ended. The first one to do so stays."""
    earlier = (_c.performer_id == performer_id, _c.id < later_id, _c.status.in_(ENDED), _c.superseded_by.is_(None))
    await tx.execute(update_of(kyc_requests).where(*earlier).values(superseded_by=later_id))


async def flag_successors(tx: AsyncConnection, request: KycRequest, reason: ReviewReason) -> int:
    """Put the later requests of the same performer, but those that have ended, before a person. Return their number."""
    later = (_c.performer_id == request.performer_id, _c.id > request.id, _c.status.not_in(ENDED))
    flagged = await tx.execute(update_of(kyc_requests).where(*later).values(review_reason=reason))
    return flagged.rowcount


async def existing(reading: AsyncConnection, request_ids: Sequence[int]) -> list[int]:
    """Return those of `request_ids` that there are, in order."""
    return list(await reading.scalars(select(_c.id).where(_c.id.in_(request_ids)).order_by(_c.id)))


async def oldest_by_status(reading: AsyncConnection, statuses: Iterable[KycStatus]) -> Mapping[KycStatus, datetime]:
    """Return the last change of the request that was unchanged longest in each status that a request has."""
    query = select(_c.status, func.min(_c.updated_at)).where(_c.status.in_(list(statuses))).group_by(_c.status)
    return {KycStatus(status): at for status, at in await reading.execute(query)}


async def count_flagged(reading: AsyncConnection) -> int:
    """Return the number of requests that a person must look at again."""
    return await reading.scalar(select(func.count()).where(_c.review_reason.is_not(None))) or 0


async def set_values(tx: AsyncConnection, request_id: int, **values: object) -> None:
    """Write columns of a request that is locked."""
    await tx.execute(update_of(kyc_requests).where(_c.id == request_id).values(values))


async def _load(
    connection: AsyncConnection, query: Select[*tuple[Any, ...]], verification_ids: Iterable[str]
) -> Mapping[str, KycRequest]:
    requests: dict[str, KycRequest] = {}
    for chunk in chunks(verification_ids):
        rows = await connection.execute(query, {"verification_ids": chunk})
        requests |= {row.verification_id: _request(row) for row in rows}
    return requests


def _request(row: Row[*tuple[Any, ...]]) -> KycRequest:
    return KycRequest(
        id=row.id,
        performer_id=row.performer_id,
        verification_id=row.verification_id,
        status=KycStatus(row.status),
        risk_score=row.risk_score,
        result=row.result,
        write_version=None
        if row.result_at is None
        else WriteVersion(row.result_version, _micros(row.result_at), row.result_arrival),
        decision=None
        if row.decision_status is None
        else ManualDecision(
            KycStatus(row.decision_status),
            _micros(row.decision_at),
            row.decision_basis and KycStatus(row.decision_basis),
            row.decision_version,
        ),
        sequence=row.change_sequence,
        document_expires_on=row.document_expires_on,
        expires_at=row.expires_at,
        expiry_due_at=row.expiry_due_at,
        superseded_by=row.superseded_by,
    )


def _stored(row: Row[*tuple[Any, ...]]) -> StoredKycRequest:
    return StoredKycRequest(
        _request(row),
        row.created_at,
        row.updated_at,
        row.document_type,
        row.applicant,
        row.decision_reason and RejectionReason(row.decision_reason),
        row.reopened_at,
        row.review_reason and ReviewReason(row.review_reason),
    )


def _row(request: KycRequest, now: datetime) -> tuple[object, ...]:
    version, decision = request.write_version, request.decision
    return (
        request.id,
        request.performer_id,
        request.verification_id,
        request.status,
        request.risk_score,
        request.result,
        version and version.version,
        version and _time(version.at_micros),
        version.arrival if version else 0,
        now,
        now,
        request.sequence,
        decision and decision.status,
        decision and _time(decision.at_micros),
        decision and decision.basis,
        request.expires_at,
        decision and decision.version,
        request.expiry_due_at,
    )


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
