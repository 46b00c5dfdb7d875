"""The audit log. An entry is written in the transaction of its action, so neither exists without the other."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypedDict

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import audit_log
from safevideo_common.domain.sentences import MAX_SENTENCE, is_sentence
from safevideo_common.errors import ValidationFailed

_c: Final = audit_log.c


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An action. `details` have ids, counts and options, never a secret or personal data."""

    at: datetime
    actor: str
    role: str
    action: str
    remote: str | None
    request_id: str | None
    details: Mapping[str, object]
    target: str | None = None
    """The thing that was acted on, such as `job:41`; None for an action on many."""


class Caller(NamedTuple):
    """The caller of an action, as the audit log records it."""

    name: str
    role: str
    remote: str | None
    request_id: str

    def entry(self, action: str, clock: Clock, details: Mapping[str, object], target: str | None = None) -> AuditEntry:
        """Return the entry for an action of this caller. `details` say what was, and what is now."""
        return AuditEntry(clock(), self.name, self.role, action, self.remote, self.request_id, details, target)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry with its row id."""

    row_id: int
    entry: AuditEntry


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Conditions that must all match. The range is of `at`, without its end."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    request_id: str | None = None
    at_from: datetime | None = None
    at_to: datetime | None = None


def check_reason(reason: str) -> None:
    """Raise `ValidationFailed` for a reason that is empty, too long, or more than one line."""
    if not is_sentence(reason):
        raise ValidationFailed("Give a reason.", details={"reason": f"1 to {MAX_SENTENCE} characters, one line"})


async def record(tx: AsyncConnection, entry: AuditEntry) -> None:
    """Add an entry. Nothing changes one, and only `delete_before` deletes one."""
    row = {
        "at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "remote": entry.remote,
        "request_id": entry.request_id,
        "target": entry.target,
        "details": dict(entry.details),
    }
    await tx.execute(insert(audit_log).values(row))


async def find(
    reading: AsyncConnection,
    matching: AuditFilter,
    *,
    page: int,
    limit: int,
    order: Order = "desc",
    after: int | None = None,
) -> tuple[list[AuditRecord], int]:
    """Return one page by time, counted from 1, and how many there are in all."""
    exactly = equal(
        (_c.actor, matching.actor),
        (_c.action, matching.action),
        (_c.target, matching.target),
        (_c.request_id, matching.request_id),
    )
    query = select(audit_log).where(*exactly, *within(_c.at, matching.at_from, matching.at_to))
    rows, total = await find_page(reading, query, (_c.at, _c.id), page=page, limit=limit, order=order, after=after)
    return [_record(row) for row in rows], total


async def find_of_targets(
    reading: AsyncConnection, targets: Collection[str], actions: Collection[str], *, limit: int
) -> list[AuditRecord]:
    """Return the newest entries about some things, of these actions, the newest first."""
    query = select(audit_log).where(_c.target.in_(targets), _c.action.in_(actions))
    return [_record(row) for row in await reading.execute(query.order_by(_c.at.desc(), _c.id.desc()).limit(limit))]


async def delete_before(tx: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete at most `limit` of the entries before a time, the oldest first, and return how many. The retention."""
    row_ids = (await tx.execute(select(_c.id).where(_c.at < before).order_by(_c.at).limit(limit))).scalars().all()
    await tx.execute(delete(audit_log).where(_c.id.in_(row_ids)))
    return len(row_ids)


class AuditDocument(TypedDict):
    """An action. `details` have ids, states and options."""

    id: int
    at: TimestampText
    actor: str
    role: str
    action: str
    target: str | None
    remote: str | None
    requestId: str | None
    details: Mapping[str, Any]


def audit_document(record: AuditRecord) -> AuditDocument:
    """Return the JSON document of an entry."""
    entry = record.entry
    return {
        "id": record.row_id,
        "at": rfc3339(entry.at),
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "target": entry.target,
        "remote": entry.remote,
        "requestId": entry.request_id,
        "details": entry.details,
    }


def _record(row: Row[*tuple[object, ...]]) -> AuditRecord:
    entry = AuditEntry(row.at, row.actor, row.role, row.action, row.remote, row.request_id, row.details, row.target)
    return AuditRecord(row.id, entry)
