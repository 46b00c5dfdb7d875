"""Attempts: keeping a lease, saving progress under it, and writing how an attempt ends.

Each statement checks the token of the lease, so a worker that has lost its lease writes nothing.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Float, Row, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import (
    Bulk,
    Upsert,
    for_update_skip_locked,
    force_index,
    now_plus,
)
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.jobs.model import (
    UNCOUNTED,
    AttemptOutcome,
    CompletedJob,
    JobAttempt,
    JobCompletion,
    JobProgress,
    JobStatus,
    Lease,
    error_text,
    log_fields_of,
)

MAX_RESCUED_PER_SCAN: Final = 100
MAX_DEFERRALS: Final = 10_000
"""The deferrals of one job, each a row. One that a gate does not hold back is deferred each minute: about a week."""
_LEASE_LOST: Final = error_text("LEASE_LOST", "its worker died or was frozen past its lease")

_c: Final = batch_jobs.c
_holds_lease: Final = (
    _c.id == bindparam("of"),
    _c.lease_token == bindparam("token"),
    _c.status == JobStatus.PROCESSING,
)
_is_processing: Final = (_c.id.in_(bindparam("ids", expanding=True)), _c.status == JobStatus.PROCESSING)
_renewed: Final = {"lease_until": now_plus(bindparam("lease_seconds", type_=Float)), "heartbeat_at": now_plus()}
_RENEW: Final = update(batch_jobs).where(*_holds_lease).values(_renewed)
_RENEW_LOCKED: Final = update(batch_jobs).where(_c.id.in_(bindparam("ids", expanding=True))).values(_renewed)
_SELECT_CANCEL_REQUEST: Final = select(_c.cancel_requested_at.is_not(None)).where(*_holds_lease)
_SELECT_PROCESSING: Final = select(_c.id, _c.lease_token, _c.cancel_requested_at).where(*_is_processing)
_LOCK_LEASES: Final = for_update_skip_locked(select(_c.id, _c.lease_token).where(*_is_processing))

_select_attempt: Final = select(
    _c.id, _c.job_type, _c.lease_token, _c.active_key, _c.tries, _c.max_tries, _c.free_tries, _c.progress,
    _c.next_try_at, _c.worker, _c.started_at, _c.cancel_requested_at, _c.request_id,
    now_plus().label("now"),
)  # fmt: skip
_LOCK_ATTEMPTS: Final = for_update_skip_locked(_select_attempt.where(*_is_processing))
# By this index, because the database locks each row that it reads on the way.
_LOCK_EXPIRED: Final = for_update_skip_locked(
    force_index(
        _select_attempt.add_columns(_c.parameters)
        .where(_c.status == JobStatus.PROCESSING, or_(_c.lease_until <= now_plus(), _c.lease_until.is_(None)))
        .limit(MAX_RESCUED_PER_SCAN),
        batch_jobs,
        "idx_batch_jobs_due",
    )
)
_CHANGED: Final = (
    "status", "error", "active_key", "next_try_at", "tries", "free_tries", "lease_token", "lease_until", "progress",
    "result", "finished_at",
)  # fmt: skip
# An insert needs values for these columns and never writes them: the row exists and is locked.
_UNWRITTEN: Final = ("job_type", "parameters", "priority", "created_at", "queued_at", "max_tries")
_WRITE: Final = Bulk(
    Upsert(batch_jobs, ("id",), _CHANGED),
    [each.name for each in batch_jobs.columns if each.name in {"id", *_CHANGED, *_UNWRITTEN}],
)
_tries: Final = batch_job_tries.c
_COUNT_DEFERRALS: Final = (
    select(_tries.job_id, func.count().label("deferrals"))
    .where(_tries.job_id.in_(bindparam("ids", expanding=True)), _tries.outcome == AttemptOutcome.DEFERRED.value)
    .group_by(_tries.job_id)
)
_INSERT_ATTEMPTS: Final = Bulk(insert(batch_job_tries), JobAttempt._fields)


class Renewal(NamedTuple):
    """The result of renewing many leases."""

    lost_leases: set[Lease]
    cancelled_leases: set[Lease]
    """Leases of jobs for which cancellation was requested."""


async def save_progress(tx: AsyncConnection, lease: Lease, lease_seconds: float, progress: JobProgress) -> bool | None:
    """Renew the lease, save the progress, and lock the row until the transaction ends.

    Return True if cancellation was requested, and None if the lease is lost; then nothing is written.
    """
    holder = {"of": lease.job_id, "token": lease.token}
    statement = _RENEW.values(_progress_columns(progress)) if progress != JobProgress() else _RENEW
    changed = await tx.execute(statement, {**holder, "lease_seconds": lease_seconds})
    return bool(await tx.scalar(_SELECT_CANCEL_REQUEST, holder)) if changed.rowcount else None


def _progress_columns(progress: JobProgress) -> dict[str, object]:
    values = {"cursor": progress.cursor, "processed_items": progress.processed, "total_items": progress.total}
    changes: dict[str, object] = {name: value for name, value in values.items() if value is not None}
    if progress.has_moved:
        changes["free_tries"] = _c.tries
    if progress.processed is not None and progress.total:
        changes["progress"] = max(0, min(99, 100 * progress.processed // progress.total))
    return changes


async def is_cancel_requested(connection: AsyncConnection, lease: Lease) -> bool | None:
    """Return True if cancellation was requested, and None if the lease is lost."""
    is_requested = await connection.scalar(_SELECT_CANCEL_REQUEST, {"of": lease.job_id, "token": lease.token})
    return None if is_requested is None else bool(is_requested)


async def renew(tx: AsyncConnection, leases: Set[Lease], lease_seconds: float) -> Renewal:
    """Renew all these leases. A row that is locked is in a step, which renews its own lease."""
    ids = _ids(leases)
    rows = await tx.execute(_SELECT_PROCESSING, ids)
    cancel_requests = {Lease(row.id, row.lease_token): row.cancel_requested_at for row in rows}
    locked = [row.id for row in await tx.execute(_LOCK_LEASES, ids) if (row.id, row.lease_token) in leases]
    if locked:
        await tx.execute(_RENEW_LOCKED, {"ids": locked, "lease_seconds": lease_seconds})
    cancelled = {lease for lease in leases if cancel_requests.get(lease) is not None}
    return Renewal({*leases} - cancel_requests.keys(), cancelled)


async def complete(
    tx: AsyncConnection, completions: Sequence[JobCompletion]
) -> tuple[list[CompletedJob], list[JobCompletion]]:
    """Write each completion whose lease is valid. Return what was written, and what must be tried again.

    The latter are jobs whose row another transaction has locked, for example an operator's: they must not delay the
    other completions. A completion whose lease is lost is in neither list.
    """
    by_lease = {completion.lease: completion for completion in completions}
    rows = (await tx.execute(_LOCK_ATTEMPTS, _ids(by_lease))).all()
    written = await _write(tx, [(row, by_lease[lease]) for row in rows if (lease := _lease(row)) in by_lease])
    rest = by_lease.keys() - {each.lease for each in written}
    locked = (await tx.execute(_SELECT_PROCESSING, _ids(rest))).all() if rest else ()
    return written, [by_lease[lease] for row in locked if (lease := _lease(row)) in rest]


async def rescue(tx: AsyncConnection, delays: Sequence[float]) -> list[CompletedJob]:
    """Take back jobs whose lease has expired. `delays` are seconds by attempts; the last one is for all later attempts.

    Concurrent rescuers get different jobs. A row that is locked is being completed, or is in a step that renews its
    lease.
    """
    rows = (await tx.execute(_LOCK_EXPIRED)).all()
    return await _write(tx, [(row, _rescued(row, delays)) for row in rows])


async def record_attempts(tx: AsyncConnection, attempts: Sequence[JobAttempt]) -> None:
    """Insert attempts that ended. The caller has the jobs' rows locked, so that no attempt is recorded twice."""
    await _INSERT_ATTEMPTS.execute(tx, attempts)


async def attempts_of(connection: AsyncConnection, job_id: int) -> list[JobAttempt]:
    """Return the job's attempts that ended, the oldest first."""
    columns = batch_job_tries.c
    query = select(*(columns[name] for name in JobAttempt._fields)).where(columns.job_id == job_id).order_by(columns.id)
    return [JobAttempt(*row)._replace(outcome=AttemptOutcome(row.outcome)) for row in await connection.execute(query)]


def _ids(leases: Iterable[Lease]) -> dict[str, list[int]]:
    return {"ids": sorted({lease.job_id for lease in leases})}


def _lease(row: Row[*tuple[object, ...]]) -> Lease:
    return Lease(row.id, row.lease_token)


def _rescued(row: Row[*tuple[object, ...]], delays: Sequence[float]) -> JobCompletion:
    delay = delays[min(max(row.tries, 1), len(delays)) - 1]
    about = log_fields_of(row.id, row.job_type, row.request_id, row.parameters)
    return JobCompletion(_lease(row), AttemptOutcome.LEASE_LOST, _LEASE_LOST, delay=delay, log_fields=about)


async def _write(
    tx: AsyncConnection, ended: Collection[tuple[Row[*tuple[object, ...]], JobCompletion]]
) -> list[CompletedJob]:
    deferrals = await _count_deferrals(tx, ended)
    ended = [
        (row, _fail_if_exhausted(row, _cancel_if_requested(row, completion), deferrals.get(row.id, 0)))
        for row, completion in ended
    ]
    await _WRITE.execute(tx, [_row_after(row, completion) for row, completion in ended])
    await record_attempts(tx, [_attempt(row, completion) for row, completion in ended])
    return [CompletedJob(_lease(row), row.job_type, each.outcome, each.status, each.log_fields) for row, each in ended]


def _cancel_if_requested(row: Row[*tuple[object, ...]], completion: JobCompletion) -> JobCompletion:
    """Return a cancellation if the job would be retried but cancellation was requested."""
    if completion.status is JobStatus.QUEUED and row.cancel_requested_at is not None:
        return completion._replace(outcome=AttemptOutcome.CANCELLED, error=None)
    return completion


async def _count_deferrals(
    tx: AsyncConnection, ended: Collection[tuple[Row[*tuple[object, ...]], JobCompletion]]
) -> dict[int, int]:
    """Return how often each job that is deferred now was deferred before."""
    ids = [row.id for row, completion in ended if completion.outcome is AttemptOutcome.DEFERRED]
    if not ids:
        return {}
    return {row.job_id: row.deferrals for row in await tx.execute(_COUNT_DEFERRALS, {"ids": ids})}


def _fail_if_exhausted(row: Row[*tuple[object, ...]], completion: JobCompletion, deferrals: int) -> JobCompletion:
    """Return a failure if the attempt was the last that the job may spend at this place, or one deferral too many."""
    if completion.outcome is AttemptOutcome.DEFERRED and deferrals >= MAX_DEFERRALS:
        return completion._replace(outcome=AttemptOutcome.FAILED)
    is_free = completion.is_outage or completion.outcome in UNCOUNTED
    if completion.status is JobStatus.QUEUED and not is_free and row.tries - row.free_tries >= row.max_tries:
        return completion._replace(outcome=AttemptOutcome.FAILED)
    return completion


def _row_after(row: Row[*tuple[object, ...]], completion: JobCompletion) -> tuple[object, ...]:
    """Return the values of `_WRITE`, in the order of the table's columns."""
    status, now = completion.status, row.now
    is_queued = status is JobStatus.QUEUED
    return (
        row.id, "", {}, "", status.value, completion.error, now,
        row.active_key if is_queued else None,
        now,
        now + timedelta(seconds=completion.delay) if is_queued else row.next_try_at,
        row.tries - 1 if completion.outcome in UNCOUNTED else row.tries,
        0, None, None,
        100 if status is JobStatus.COMPLETED else row.progress,
        completion.result,
        None if is_queued else now,
        min(row.free_tries + completion.is_outage, row.tries),
    )  # fmt: skip


def _attempt(row: Row[*tuple[object, ...]], completion: JobCompletion) -> JobAttempt:
    return JobAttempt(row.id, row.tries, row.worker, row.started_at, row.now, completion.outcome, completion.error)
