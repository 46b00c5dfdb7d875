"""KYC requests: written by the gateway and kyc-worker."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, Select, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert, for_update
from safevideo_common.database.tables import kyc_requests
from safevideo_common.domain.kyc import KycRequest, KycStatus
from safevideo_common.domain.ordering import WriteVersion

_c: Final = kyc_requests.c
_BY_VERIFICATION: Final = (
    select(kyc_requests)
    .where(_c.verification_id.in_(bindparam("verification_ids", expanding=True)))
    .order_by(_c.verification_id)
)
_LOCKED: Final = for_update(_BY_VERIFICATION)
_JUDGED: Final = ("status", "risk_score", "result", "result_version", "result_at", "result_arrival")
_UPDATE: Final = Bulk(
    Upsert(kyc_requests, ("id",), (*_JUDGED, "updated_at")),
    ("id", "performer_id", "verification_id", *_JUDGED, "created_at", "updated_at"),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def load_for_update(tx: AsyncConnection, verification_ids: Iterable[str]) -> Mapping[str, KycRequest]:
    """Those of them that we know a request of, by verification id, locked until the transaction ends."""
    return await _load(tx, _LOCKED, verification_ids)


async def load(reading: AsyncConnection, verification_ids: Iterable[str]) -> Mapping[str, KycRequest]:
    """The same without locks: they may be others by now."""
    return await _load(reading, _BY_VERIFICATION, verification_ids)


async def update(tx: AsyncConnection, changed: Iterable[KycRequest], now: datetime) -> None:
    """Write requests that `load_for_update` found, in one statement."""
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


async def _load(
    connection: AsyncConnection, query: Select[*tuple[Any, ...]], verification_ids: Iterable[str]
) -> Mapping[str, KycRequest]:
    found: dict[str, KycRequest] = {}
    for some in chunks(verification_ids):
        rows = await connection.execute(query, {"verification_ids": some})
        found |= {row.verification_id: _request(row) for row in rows}
    return found


def _request(row: Row[*tuple[object, ...]]) -> KycRequest:
    return KycRequest(
        id=row.id,
        performer_id=row.performer_id,
        verification_id=row.verification_id,
        status=KycStatus(row.status),
        risk_score=row.risk_score,
        result=row.result,
        stamp=None
        if row.result_at is None
        else WriteVersion(row.result_version, _micros(row.result_at), row.result_arrival),
    )


def _row(request: KycRequest, now: datetime) -> tuple[object, ...]:
    stamp = request.stamp
    return (
        request.id,
        request.performer_id,
        request.verification_id,
        request.status,
        request.risk_score,
        request.result,
        stamp and stamp.version,
        stamp and _EPOCH + timedelta(microseconds=stamp.at_micros),
        stamp.arrival if stamp else 0,
        now,
        now,
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
