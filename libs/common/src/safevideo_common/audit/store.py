"""The audit log. An entry is written in the transaction of its action, so neither exists without the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import audit_log

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


class Caller(NamedTuple):
    """The caller of an action, as the audit log records it."""

    name: str
    role: str
    remote: str | None
    request_id: str

    def entry(self, action: str, clock: Clock, details: Mapping[str, object]) -> AuditEntry:
        """Return the entry for an action of this caller."""
        return AuditEntry(clock(), self.name, self.role, action, self.remote, self.request_id, details)


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
    at_from: datetime | None = None
    at_to: datetime | None = None


async def record(tx: AsyncConnection, entry: AuditEntry) -> None:
    """Add an entry. Nothing ever changes or deletes one."""
    row = {
        "at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "remote": entry.remote,
        "request_id": entry.request_id,
        "details": dict(entry.details),
    }
    await tx.execute(insert(audit_log).values(row))


async def find(
    reading: AsyncConnection, matching: AuditFilter, *, page: int, limit: int, order: Order = "desc"
) -> tuple[list[AuditRecord], int]:
    """Return one page by time, counted from 1, and how many there are in all."""
    of_whom = equal((_c.actor, matching.actor), (_c.action, matching.action))
    query = select(audit_log).where(*of_whom, *within(_c.at, matching.at_from, matching.at_to))
    rows, total = await find_page(reading, query, (_c.at, _c.id), page=page, limit=limit, order=order)
    return [_record(row) for row in rows], total


def _record(row: Row[*tuple[object, ...]]) -> AuditRecord:
    entry = AuditEntry(row.at, row.actor, row.role, row.action, row.remote, row.request_id, row.details)
    return AuditRecord(row.id, entry)
