"""Keeping a lease, and writing under it. Whoever has lost it writes nothing: each statement checks the token."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Float, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update_of_free, from_now
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import JobStatus

_c: Final = batch_jobs.c
_is_held: Final = (
    _c.id == bindparam("of"),
    _c.lease_token == bindparam("token"),
    _c.status == JobStatus.PROCESSING,
)
_extended: Final = {"lease_until": from_now(bindparam("lease_seconds", type_=Float)), "heartbeat_at": from_now()}
_EXTEND: Final = update(batch_jobs).where(*_is_held).values(_extended)
_ASKED: Final = select(_c.cancel_requested_at).where(_c.id == bindparam("of"))
_HELD: Final = select(_c.cancel_requested_at.is_not(None)).where(*_is_held)
_named: Final = (_c.id.in_(bindparam("ids", expanding=True)), _c.status == JobStatus.PROCESSING)
_SEEN: Final = select(_c.id, _c.lease_token, _c.cancel_requested_at).where(*_named)
_FREE: Final = for_update_of_free(select(_c.id, _c.lease_token).where(*_named))
_BEAT: Final = update(batch_jobs).where(_c.id.in_(bindparam("ids", expanding=True))).values(_extended)


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a step brings the work; what is None stays as it was."""

    cursor: Mapping[str, object] | None = None
    processed: int | None = None
    total: int | None = None

    def values(self) -> dict[str, object]:
        """The columns that change."""
        chosen = {"cursor": self.cursor, "processed_items": self.processed, "total_items": self.total}
        changes: dict[str, object] = {name: value for name, value in chosen.items() if value is not None}
        if self.processed is not None and self.total:
            changes["progress"] = max(0, min(99, 100 * self.processed // self.total))
        return changes


class Lease(NamedTuple):
    """A job, and the token under which it was claimed: of two claims of one job only the later one's is good."""

    job_id: int
    token: str


class Beat(NamedTuple):
    """What a heartbeat saw."""

    lost: set[Lease]
    asked_to_stop: set[Lease]


async def advance(tx: AsyncConnection, lease: Lease, lease_seconds: float, by: Advance) -> bool | None:
    """Extend the lease and save how far the work is, and keep everybody from the row until the transaction ends.

    Whether somebody has asked to cancel; None when the lease is lost, and then nothing is written.
    """
    held = {"of": lease.job_id, "token": lease.token, "lease_seconds": lease_seconds}
    changed = await tx.execute(_EXTEND.values(by.values()) if by != Advance() else _EXTEND, held)
    if not changed.rowcount:
        return None
    return await tx.scalar(_ASKED, {"of": lease.job_id}) is not None


async def is_cancelled(reading: AsyncConnection, lease: Lease) -> bool | None:
    """Whether somebody has asked to cancel; None when the lease is lost."""
    asked = await reading.scalar(_HELD, {"of": lease.job_id, "token": lease.token})
    return None if asked is None else bool(asked)


async def beat(tx: AsyncConnection, leases: Set[Lease], lease_seconds: float) -> Beat:
    """Extend all these leases; a row that is locked is in a step, which extends its own."""
    ids = {"ids": sorted({lease.job_id for lease in leases})}
    seen = {Lease(row.id, row.lease_token): row.cancel_requested_at for row in await tx.execute(_SEEN, ids)}
    free = [row.id for row in await tx.execute(_FREE, ids) if (row.id, row.lease_token) in leases]
    if free:
        await tx.execute(_BEAT, {"ids": free, "lease_seconds": lease_seconds})
    return Beat({*leases} - seen.keys(), {lease for lease in leases if seen.get(lease) is not None})
