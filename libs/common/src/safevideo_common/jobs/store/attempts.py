"""How tries end: many at once, each only where its lease still holds; and what becomes of those whose worker died."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Float, Row, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import (
    Bulk,
    Upsert,
    for_update_skip_locked,
    force_index,
    now_plus,
)
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.jobs.model import AttemptOutcome, JobStatus, attempts_exhausted, error_text

# Keeping a lease, and writing under it. Whoever has lost it writes nothing: each statement checks the token.


_c: Final = batch_jobs.c
_is_held: Final = (
    _c.id == bindparam("of"),
    _c.lease_token == bindparam("token"),
    _c.status == JobStatus.PROCESSING,
)
_extended: Final = {"lease_until": now_plus(bindparam("lease_seconds", type_=Float)), "heartbeat_at": now_plus()}
_EXTEND: Final = update(batch_jobs).where(*_is_held).values(_extended)
_ASKED: Final = select(_c.cancel_requested_at).where(_c.id == bindparam("of"))
_HELD_LEASE: Final = select(_c.cancel_requested_at.is_not(None)).where(*_is_held)
_named_lease: Final = (_c.id.in_(bindparam("ids", expanding=True)), _c.status == JobStatus.PROCESSING)
_SEEN: Final = select(_c.id, _c.lease_token, _c.cancel_requested_at).where(*_named_lease)
_FREE_LEASE: Final = for_update_skip_locked(select(_c.id, _c.lease_token).where(*_named_lease))
_BEAT: Final = update(batch_jobs).where(_c.id.in_(bindparam("ids", expanding=True))).values(_extended)


@dataclass(frozen=True, slots=True)
class JobProgress:
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


class Renewal(NamedTuple):
    """What a heartbeat saw."""

    lost: set[Lease]
    asked_to_stop: set[Lease]


async def advance(tx: AsyncConnection, lease: Lease, lease_seconds: float, by: JobProgress) -> bool | None:
    """Extend the lease and save how far the work is, and keep everybody from the row until the transaction ends.

    Whether somebody has asked to cancel; None when the lease is lost, and then nothing is written.
    """
    held = {"of": lease.job_id, "token": lease.token, "lease_seconds": lease_seconds}
    changed = await tx.execute(_EXTEND.values(by.values()) if by != JobProgress() else _EXTEND, held)
    if not changed.rowcount:
        return None
    return await tx.scalar(_ASKED, {"of": lease.job_id}) is not None


async def is_cancelled(reading: AsyncConnection, lease: Lease) -> bool | None:
    """Whether somebody has asked to cancel; None when the lease is lost."""
    asked = await reading.scalar(_HELD_LEASE, {"of": lease.job_id, "token": lease.token})
    return None if asked is None else bool(asked)


async def renew(tx: AsyncConnection, leases: Set[Lease], lease_seconds: float) -> Renewal:
    """Extend all these leases; a row that is locked is in a step, which extends its own."""
    ids = {"ids": sorted({lease.job_id for lease in leases})}
    seen = {Lease(row.id, row.lease_token): row.cancel_requested_at for row in await tx.execute(_SEEN, ids)}
    free = [row.id for row in await tx.execute(_FREE_LEASE, ids) if (row.id, row.lease_token) in leases]
    if free:
        await tx.execute(_BEAT, {"ids": free, "lease_seconds": lease_seconds})
    return Renewal({*leases} - seen.keys(), {lease for lease in leases if seen.get(lease) is not None})


# How the tries of jobs ended: a row each.


_t: Final = batch_job_tries.c


class JobAttempt(NamedTuple):
    """One of them, by the columns of the table. `number` counts within a run: a fresh one begins at 1 again."""

    job_id: int
    number: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: AttemptOutcome
    error: str | None


_INSERT: Final = Bulk(insert(batch_job_tries), JobAttempt._fields)
_COLUMNS: Final = [_t[name] for name in JobAttempt._fields]


async def record_attempts(tx: AsyncConnection, ended: Sequence[JobAttempt]) -> None:
    """Write them down. Whoever calls has the jobs' rows locked, or a try would be written twice."""
    await _INSERT.execute(tx, ended)


async def attempts_of(reading: AsyncConnection, job_id: int) -> list[JobAttempt]:
    """How the job's tries ended, the oldest first. The one under way is not among them."""
    rows = await reading.execute(select(*_COLUMNS).where(_t.job_id == job_id).order_by(_t.id))
    return [JobAttempt(*row)._replace(outcome=AttemptOutcome(row.outcome)) for row in rows]


MAX_RESCUED_PER_SCAN: Final = 100
LEASE_LOST: Final = error_text("LEASE_LOST", "its worker died or was frozen past its lease")

_read: Final = select(
    _c.id, _c.job_type, _c.lease_token, _c.active_key, _c.tries, _c.max_tries, _c.progress, _c.next_try_at, _c.worker,
    _c.started_at, _c.cancel_requested_at, now_plus().label("now"),
)  # fmt: skip
_named: Final = (_c.id.in_(bindparam("ids", expanding=True)), _c.status == JobStatus.PROCESSING)
_FREE: Final = for_update_skip_locked(_read.where(*_named))
_HELD_ENDING: Final = select(_c.id, _c.lease_token).where(*_named)
# By whatever else it is found, each row that is looked at is locked for a moment.
_EXPIRED: Final = for_update_skip_locked(
    force_index(
        _read.where(
            _c.status == JobStatus.PROCESSING, or_(_c.lease_until <= now_plus(), _c.lease_until.is_(None))
        ).limit(MAX_RESCUED_PER_SCAN),
        batch_jobs,
        "idx_batch_jobs_due",
    )
)
_CHANGED: Final = (
    "status", "error", "active_key", "next_try_at", "tries", "lease_token", "lease_until", "progress", "result",
    "finished_at",
)  # fmt: skip
# What an insert needs and never writes: the row is there, and locked.
_UNWRITTEN: Final = ("job_type", "parameters", "priority", "created_at", "queued_at", "max_tries")
_WRITE: Final = Bulk(
    Upsert(batch_jobs, ("id",), _CHANGED),
    [each.name for each in batch_jobs.columns if each.name in {"id", *_CHANGED, *_UNWRITTEN}],
)
_STATUS: Final = {
    AttemptOutcome.COMPLETED: JobStatus.COMPLETED,
    AttemptOutcome.PUT_OFF: JobStatus.QUEUED,
    AttemptOutcome.FAILED: JobStatus.FAILED,
    AttemptOutcome.CANCELLED: JobStatus.CANCELLED,
    AttemptOutcome.DRAINED: JobStatus.QUEUED,
    AttemptOutcome.LEASE_LOST: JobStatus.QUEUED,
}


class JobCompletion(NamedTuple):
    """How a try has ended."""

    lease: Lease
    outcome: AttemptOutcome
    error: str | None = None
    result: Mapping[str, object] | None = None
    delay: float = 0.0
    """Seconds until the next try, where there is one."""


class CompletedJob(NamedTuple):
    """What was written."""

    lease: Lease
    job_type: str
    outcome: AttemptOutcome
    status: JobStatus


async def complete(
    tx: AsyncConnection, endings: Sequence[JobCompletion]
) -> tuple[list[CompletedJob], list[JobCompletion]]:
    """Write each ending whose lease still holds. Give what was written, and what has to be tried again.

    That is where somebody has the row locked, an operator say, who must not keep the others from ending. Of an ending
    whose lease is lost nothing is written.
    """
    by_lease = {ending.lease: ending for ending in endings}
    rows = (await tx.execute(_FREE, _ids(by_lease))).all()
    free = [(row, by_lease[lease]) for row in rows if (lease := _lease(row)) in by_lease]
    ended = await _write(tx, [(row, _cancel_if_requested(row, ending)) for row, ending in free])
    rest = by_lease.keys() - {each.lease for each in ended}
    held = (await tx.execute(_HELD_ENDING, _ids(rest))).all() if rest else ()
    return ended, [by_lease[lease] for row in held if (lease := _lease(row)) in rest]


async def rescue(tx: AsyncConnection, delays: Sequence[float]) -> list[CompletedJob]:
    """Take jobs back whose lease has run out. `delays` are seconds by tries, the last standing for all more.

    Of several rescuers at once each gets others. A row that is locked is just being ended, or in a step that extends
    its lease.
    """
    rows = (await tx.execute(_EXPIRED)).all()
    return await _write(tx, [(row, _cancel_if_requested(row, _lost(row, delays))) for row in rows])


def _ids(leases: Iterable[Lease]) -> dict[str, list[int]]:
    return {"ids": sorted({lease.job_id for lease in leases})}


def _lease(row: Row[*tuple[object, ...]]) -> Lease:
    return Lease(row.id, row.lease_token)


def _lost(row: Row[*tuple[object, ...]], delays: Sequence[float]) -> JobCompletion:
    if attempts_exhausted(row.tries, row.max_tries):
        return JobCompletion(_lease(row), AttemptOutcome.FAILED, LEASE_LOST)
    delay = delays[min(max(row.tries, 1), len(delays)) - 1]
    return JobCompletion(_lease(row), AttemptOutcome.LEASE_LOST, LEASE_LOST, delay=delay)


def _cancel_if_requested(row: Row[*tuple[object, ...]], ending: JobCompletion) -> JobCompletion:
    """What would run again does not where somebody has asked for that meanwhile."""
    if _STATUS[ending.outcome] is JobStatus.QUEUED and row.cancel_requested_at is not None:
        return ending._replace(outcome=AttemptOutcome.CANCELLED, error=None)
    return ending


async def _write(
    tx: AsyncConnection, ended: Sequence[tuple[Row[*tuple[object, ...]], JobCompletion]]
) -> list[CompletedJob]:
    await _WRITE.execute(tx, [_changed(row, ending) for row, ending in ended])
    await record_attempts(tx, [_tried(row, ending) for row, ending in ended])
    return [CompletedJob(_lease(row), row.job_type, ending.outcome, _STATUS[ending.outcome]) for row, ending in ended]


def _changed(row: Row[*tuple[object, ...]], ending: JobCompletion) -> tuple[object, ...]:
    status, now = _STATUS[ending.outcome], row.now
    is_queued = status is JobStatus.QUEUED
    return (
        row.id, "", {}, "", status.value, ending.error, now,
        row.active_key if is_queued else None,
        now,
        now + timedelta(seconds=ending.delay) if is_queued else row.next_try_at,
        row.tries - 1 if ending.outcome is AttemptOutcome.DRAINED else row.tries,
        0, None, None,
        100 if status is JobStatus.COMPLETED else row.progress,
        ending.result,
        None if is_queued else now,
    )  # fmt: skip


def _tried(row: Row[*tuple[object, ...]], ending: JobCompletion) -> JobAttempt:
    return JobAttempt(row.id, row.tries, row.worker, row.started_at, row.now, ending.outcome, ending.error)
