"""What the gateway shows of the quarantine. No body is read here, and no signature is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import rejected_webhooks

Order = Literal["asc", "desc"]

_c: Final = rejected_webhooks.c


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """What to look for; all conditions hold at once. The range is of `received_at`, its end excluded."""

    reason: str | None = None
    released: bool | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """The facts of one rejected webhook. Sizes and digests are those of the body as it was sent."""

    row_id: int
    received_at: datetime
    last_seen_at: datetime
    times_seen: int
    reason: str
    code: str
    scheme: str
    headers: Mapping[str, Sequence[str]]
    body_sha256: str
    body_bytes: int
    remote: str
    request_id: str | None
    released_at: datetime | None
    released_event_id: str | None


_SHOWN: Final = (
    _c.id.label("row_id"),
    _c.received_at,
    _c.last_seen_at,
    _c.times_seen,
    _c.reason,
    _c.code,
    _c.scheme,
    _c.headers,
    _c.body_sha256,
    _c.body_bytes,
    _c.remote,
    _c.request_id,
    _c.released_at,
    _c.released_event_id,
)


async def find(
    reading: AsyncConnection, wanted: RejectedFilter, *, page: int, limit: int, order: Order = "desc"
) -> tuple[list[RejectedRecord], int]:
    """One page by time of reception, counted from 1, and how many there are in all."""
    conditions = _conditions(wanted)
    total = await reading.scalar(select(func.count()).select_from(rejected_webhooks).where(*conditions))
    by = (_c.received_at, _c.id) if order == "asc" else (_c.received_at.desc(), _c.id.desc())
    rows = await reading.execute(
        select(*_SHOWN).where(*conditions).order_by(*by).limit(limit).offset((page - 1) * limit)
    )
    return [_record(row) for row in rows], total or 0


async def get(reading: AsyncConnection, row_id: int) -> RejectedRecord | None:
    """One row."""
    row = (await reading.execute(select(*_SHOWN).where(_c.id == row_id))).one_or_none()
    return _record(row) if row else None


def _conditions(wanted: RejectedFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.reason is not None:
        conditions.append(_c.reason == wanted.reason)
    if wanted.released is not None:
        conditions.append(_c.released_at.is_not(None) if wanted.released else _c.released_at.is_(None))
    if wanted.received_from is not None:
        conditions.append(_c.received_at >= wanted.received_from)
    if wanted.received_to is not None:
        conditions.append(_c.received_at < wanted.received_to)
    return conditions


def _record(row: Row[*tuple[object, ...]]) -> RejectedRecord:
    return RejectedRecord(**row._asdict())
