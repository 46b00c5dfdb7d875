"""Writing rejected webhooks to the quarantine, and reading them to release them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.batches import chunks
from safevideo_common.database.dialect import Bulk, Upsert
from safevideo_common.database.tables import rejected_webhooks

REMOTE_LENGTH: Final = 64
_SHORT_LENGTH: Final = 64
_REQUEST_ID_LENGTH: Final = 128

_c: Final = rejected_webhooks.c
_OLDEST_FIRST: Final = (_c.received_at, _c.id)


class Rejection(NamedTuple):
    """A rejected webhook as it is stored. Rejections with one `fingerprint` are deliveries of the same webhook."""

    fingerprint: str
    received_at: datetime
    last_seen_at: datetime
    times_seen: int
    reason: str
    code: str
    scheme: str
    headers: Mapping[str, Sequence[str]]
    body: bytes
    """Encrypted for the row `fingerprint`."""
    body_sha256: str
    """Of the body as sent, in hex."""
    body_bytes: int
    """Of the body as sent."""
    remote: str
    request_id: str


class RepeatCount(NamedTuple):
    """Further deliveries of a webhook that is already stored."""

    fingerprint: str
    times: int
    last_seen_at: datetime


class Candidate(NamedTuple):
    """A webhook that is not released, with its size."""

    row_id: int
    body_bytes: int


class StoredRejection(NamedTuple):
    """The data for verifying a webhook again. `body` is encrypted for the row `fingerprint`."""

    row_id: int
    fingerprint: str
    received_at: datetime
    headers: Mapping[str, Sequence[str]]
    body: bytes
    request_id: str


class ReleasedWebhook(NamedTuple):
    """A row whose event the broker has acknowledged, and the id of the event."""

    row_id: int
    event_id: str


_WRITTEN: Final = Rejection._fields
_ADD: Final = Bulk(
    Upsert(
        rejected_webhooks,
        ("fingerprint",),
        lambda new: {"last_seen_at": new.last_seen_at, "times_seen": _c.times_seen + new.times_seen},
    ),
    _WRITTEN,
)
_COUNT: Final = (
    update(rejected_webhooks)
    .where(_c.fingerprint == bindparam("of"))
    .values(
        times_seen=_c.times_seen + bindparam("times"),
        last_seen_at=bindparam("seen_at", type_=_c.last_seen_at.type),
    )
)
_RELEASE: Final = (
    update(rejected_webhooks)
    .where(_c.id == bindparam("row_id"), _c.released_at.is_(None))
    .values(
        released_at=bindparam("at", type_=_c.released_at.type),
        released_event_id=bindparam("event_id", type_=_c.released_event_id.type),
    )
)


async def existing_fingerprints(connection: AsyncConnection, fingerprints: Iterable[str]) -> set[str]:
    """Return the fingerprints that are already stored: their bodies need not be encrypted again."""
    found: set[str] = set()
    for chunk in chunks(fingerprints):
        found.update(await connection.scalars(select(_c.fingerprint).where(_c.fingerprint.in_(chunk))))
    return found


async def count_repeats(tx: AsyncConnection, repeats: Sequence[RepeatCount]) -> None:
    """Count further deliveries. A webhook that was evicted in the meantime stays evicted."""
    rows = [{"of": each.fingerprint, "times": each.times, "seen_at": each.last_seen_at} for each in repeats]
    if rows:
        await tx.execute(_COUNT, rows)


async def add(tx: AsyncConnection, rejections: Sequence[Rejection]) -> None:
    """Store new webhooks, in order of reception. If another process has stored one, count it as a repeat."""
    await _ADD.execute(tx, map(_row, rejections))


async def unreleased(connection: AsyncConnection, row_ids: Collection[int] | None = None) -> list[Candidate]:
    """Return the webhooks that are not released, all or those of `row_ids`, in order of reception."""
    query = select(_c.id, _c.body_bytes).where(_c.released_at.is_(None)).order_by(*_OLDEST_FIRST)
    candidates = [Candidate(*row) for row in await connection.execute(query)]
    return candidates if row_ids is None else [each for each in candidates if each.row_id in row_ids]


async def load(connection: AsyncConnection, row_ids: Sequence[int]) -> list[StoredRejection]:
    """Return the rows that exist and are not released, in order of reception; at most a few hundred at a time."""
    rows = await connection.execute(
        select(_c.id, _c.fingerprint, _c.received_at, _c.headers, _c.body, _c.request_id)
        .where(_c.id.in_(row_ids), _c.released_at.is_(None))
        .order_by(*_OLDEST_FIRST)
    )
    return [
        StoredRejection(row.id, row.fingerprint, row.received_at, row.headers, row.body, row.request_id or "")
        for row in rows
    ]


async def mark_released(tx: AsyncConnection, releases: Sequence[ReleasedWebhook], now: datetime) -> None:
    """Mark webhooks as published. A row that another run has marked stays as it is."""
    rows = [{"row_id": each.row_id, "event_id": each.event_id, "at": now} for each in releases]
    if rows:
        await tx.execute(_RELEASE, rows)


def _row(rejection: Rejection) -> tuple[object, ...]:
    return rejection._replace(
        reason=rejection.reason[:_SHORT_LENGTH],
        code=rejection.code[:_SHORT_LENGTH],
        remote=rejection.remote[:REMOTE_LENGTH],
        request_id=rejection.request_id[:_REQUEST_ID_LENGTH],
    )
