"""Jobs for those who enqueue and control them: enqueue, show, cancel, retry.

A job is enqueued together with the message that wakes its workers, which goes into the outbox in the same transaction.
If the process has an outbox relay, wake it after the commit.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from secrets import token_hex
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update, now_plus
from safevideo_common.database.paging import Order, equal, find_page, within
from safevideo_common.database.tables import batch_jobs
from safevideo_common.errors import DatabaseConflict, InvalidStatusTransition, JobNotCancellable, JobNotFound
from safevideo_common.events.commands import JobQueued, job_queued
from safevideo_common.jobs.model import (
    FINISHED,
    REASON_LENGTH,
    RESUMABLE,
    UNFINISHED,
    Job,
    JobStatus,
    NewJob,
    Priority,
    error_text,
    is_new_run,
    priority_of,
    status_of,
)
from safevideo_common.jobs.store.stats import is_unknown
from safevideo_common.observability.tracing import current_traceparent
from safevideo_common.outbox import store as outbox_store

_MAX_INSERTS: Final = 3
_RESUMED: Final = error_text("RETRIED", "it goes on at its cursor")
_c: Final = batch_jobs.c
_COLUMN_OF: Final = {"attempts": "tries", "max_attempts": "max_tries", "free_attempts": "free_tries"}
_COLUMNS: Final = [_c[_COLUMN_OF.get(each.name, each.name)].label(each.name) for each in fields(Job)]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions on jobs; all of them hold. The range is of `created_at`, its end excluded."""

    job_type: str | None = None
    status: JobStatus | None = None
    priority: Priority | None = None
    runner: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    request_id: str | None = None
    """The id of the request that enqueued the job."""


class Enqueued(NamedTuple):
    """The enqueued job. It is not new if another job already has its unique key."""

    job_id: int
    is_new: bool


async def get(reading: AsyncConnection, job_id: int, *, locked: bool = False) -> Job:
    """Return a job; if `locked`, lock its row until the transaction ends. Raises `JobNotFound`."""
    query = select(*_COLUMNS).where(_c.id == job_id)
    row = (await reading.execute(for_update(query) if locked else query)).one_or_none()
    if row is None:
        raise JobNotFound("No job has this id.")
    return _job(row)


async def find(
    reading: AsyncConnection,
    matching: JobFilter,
    *,
    page: int,
    limit: int,
    order: Order = "desc",
    after: int | None = None,
) -> tuple[list[Job], int]:
    """Return one page in the order of ids, counted from 1, and how many there are in all."""
    query = select(*_COLUMNS).where(*_conditions(matching))
    rows, total = await find_page(reading, query, (_c.id,), page=page, limit=limit, order=order, after=after)
    return [_job(row) for row in rows], total


def _conditions(matching: JobFilter) -> list[ColumnElement[bool]]:
    of_status = [is_unknown] if matching.status is JobStatus.UNKNOWN else equal((_c.status, matching.status))
    return [
        *equal((_c.job_type, matching.job_type), (_c.priority, matching.priority), (_c.runner, matching.runner)),
        *equal((_c.request_id, matching.request_id)),
        *of_status,
        *within(_c.created_at, matching.created_from, matching.created_to),
    ]


def _job(row: Row[*tuple[object, ...]]) -> Job:
    status = status_of(row.status)
    job = Job(**row._asdict() | {"priority": priority_of(row.priority), "status": status})
    return _without_former_run(job) if status is JobStatus.QUEUED else job


def _without_former_run(job: Job) -> Job:
    """Return a queued job without what its last attempt has left, and without its last run if a new one begins."""
    waits = replace(
        job, worker=None, heartbeat_at=None, lease_until=None, finished_at=None, result=None,
        cancel_requested_at=None, cancel_reason=None,
    )  # fmt: skip
    if not is_new_run(job.error):
        return waits
    return replace(
        waits, attempts=0, free_attempts=0, progress=0, processed_items=0, total_items=None, cursor=None,
        started_at=None,
    )  # fmt: skip


async def enqueue(tx: AsyncConnection, job: NewJob) -> Enqueued:
    """Enqueue a job with the message that wakes its workers, or return the unfinished job that has its unique key.

    Raises `DatabaseConflict` if other transactions keep taking the same key.
    """
    for _ in range(_MAX_INSERTS):
        if job.unique_key and (active_id := await active_job_with_key(tx, job.unique_key)):
            return Enqueued(active_id, is_new=False)
        if job_id := await _insert(tx, job):
            await record_job_queued_event(tx, job_id, job.job_type, job.runner, job.request_id)
            return Enqueued(job_id, is_new=True)
    raise DatabaseConflict("another transaction was at the same unique key")


async def active_job_with_key(tx: AsyncConnection, unique_key: str) -> int | None:
    """Return the id of the unfinished job with this key. Free the key if that job was ended by hand.

    It locks no row: an insert that met the key keeps a shared lock on it, and two that both want more are a deadlock.
    """
    row = (await tx.execute(select(_c.id, _c.status).where(_c.active_key == unique_key))).one_or_none()
    if row is None or status_of(row.status) in UNFINISHED:
        return None if row is None else row.id
    ended = (_c.id == row.id, _c.status == row.status, _c.active_key == unique_key)
    await tx.execute(update(batch_jobs).where(*ended).values(active_key=None))
    return None


async def _insert(tx: AsyncConnection, job: NewJob) -> int | None:
    """Return the id of the new row, or None if another transaction has just taken the key."""
    row = {
        "job_type": job.job_type,
        "parameters": dict(job.parameters),
        "priority": job.priority,
        "status": JobStatus.QUEUED,
        "runner": job.runner,
        "unique_key": job.unique_key,
        "active_key": job.unique_key,
        "max_tries": job.max_attempts,
        "created_by": job.created_by,
        "request_id": job.request_id,
        "traceparent": current_traceparent() or None,
    }
    now = dict.fromkeys(("created_at", "queued_at", "next_try_at"), now_plus())
    try:
        async with tx.begin_nested():
            inserted = await tx.execute(insert(batch_jobs).values(row | now))
    except IntegrityError:
        if job.unique_key is None:
            raise
        return None
    key = inserted.inserted_primary_key
    return None if key is None else int(key[0])


async def record_job_queued_event(
    tx: AsyncConnection, job_id: int, job_type: str, runner: str | None, request_id: str | None
) -> None:
    """Write the message that wakes the workers of this type into the outbox."""
    now = await tx.scalar(select(now_plus()))
    assert isinstance(now, datetime)
    message = job_queued(JobQueued(job_id, job_type, runner), f"job-{job_id}-{token_hex(8)}", now, request_id)
    await outbox_store.record(tx, [message], now)


async def cancel(tx: AsyncConnection, job_id: int, reason: str) -> Job:
    """Cancel a queued job at once; request cancellation of a running one. Return the job afterwards.

    A second request changes nothing. Raises `JobNotFound`, and `JobNotCancellable` if the job is finished.
    """
    job = await get(tx, job_id, locked=True)
    if job.status in FINISHED:
        raise JobNotCancellable(f"The job is {job.status}.", details={"status": job.status})
    request = {"cancel_requested_at": now_plus(), "cancel_reason": reason[:REASON_LENGTH]}
    if job.status is not JobStatus.PROCESSING:
        end = {"status": JobStatus.CANCELLED, "finished_at": now_plus(), "active_key": None}
        await tx.execute(update(batch_jobs).where(_c.id == job_id).values(request | end))
    elif job.cancel_requested_at is None:
        await tx.execute(update(batch_jobs).where(_c.id == job_id).values(request))
    return await get(tx, job_id)


async def retry(tx: AsyncConnection, job_id: int, *, from_start: bool = False) -> Job:
    """Enqueue a job that is finished or has an unknown status. Return the job afterwards.

    A failed or cancelled job goes on at its cursor, with all its attempts; with `from_start` it begins anew, as the
    others do. Raises `JobNotFound`, and `InvalidStatusTransition` if the job is unfinished or another job has its key.
    """
    job = await get(tx, job_id, locked=True)
    if job.status in UNFINISHED:
        raise InvalidStatusTransition(f"The job is {job.status}.", details={"status": job.status})
    if job.unique_key and (active_id := await active_job_with_key(tx, job.unique_key)):
        raise InvalidStatusTransition("Another job of its kind is queued or running.", details={"jobId": active_id})
    now = dict.fromkeys(("queued_at", "next_try_at"), now_plus())
    queued: dict[str, object] = {"status": JobStatus.QUEUED, "error": None, "active_key": job.unique_key}
    if job.status in RESUMABLE and job.cursor is not None and not from_start:
        queued |= {"error": _RESUMED, "free_tries": _c.tries, "finished_at": None}
    await tx.execute(update(batch_jobs).where(_c.id == job_id).values(queued | now))
    await record_job_queued_event(tx, job_id, job.job_type, job.runner, job.request_id)
    return await get(tx, job_id)
