"""The jobs as those see them who ask for them: enqueue, look, cancel, run again.

All times are the database's. What queues a job writes the message that wakes its workers into the outbox, in the same
transaction; set `stirred` of the process's relay, where it has one, after the commit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    DEFAULT_MAX_ATTEMPTS,
    FINISHED,
    REASON_LENGTH,
    UNFINISHED,
    JobStatus,
    Priority,
    priority_of,
    status_of,
)
from safevideo_common.jobs.store.attempts import JobAttempt, attempts_of
from safevideo_common.jobs.store.stats import is_unknown
from safevideo_common.outbox import store as outbox_store

# The jobs as the API and the tools show them.


_c: Final = batch_jobs.c


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `batch_jobs`, but for the lease's token."""

    id: int
    job_type: str
    parameters: Mapping[str, object]
    priority: Priority
    status: JobStatus
    error: str | None
    created_at: datetime
    runner: str | None
    unique_key: str | None
    queued_at: datetime
    next_try_at: datetime
    tries: int
    max_tries: int
    lease_until: datetime | None
    heartbeat_at: datetime | None
    worker: str | None
    progress: int
    total_items: int | None
    processed_items: int
    cursor: Mapping[str, object] | None
    result: Mapping[str, object] | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_by: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What to look for; all conditions hold at once. The range is of `created_at`, its end excluded."""

    job_type: str | None = None
    status: JobStatus | None = None
    priority: Priority | None = None
    runner: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


_COLUMNS: Final = [_c[each.name] for each in fields(Job)]


async def get(reading: AsyncConnection, job_id: int, *, locked: bool = False) -> Job:
    """One job, `locked` until the transaction ends if that is asked for. Raises `JobNotFound`."""
    query = select(*_COLUMNS).where(_c.id == job_id)
    row = (await reading.execute(for_update(query) if locked else query)).one_or_none()
    if row is None:
        raise JobNotFound("No job has this id.")
    return _job(row)


async def find(
    reading: AsyncConnection, wanted: JobFilter, *, page: int, limit: int, order: Order = "desc"
) -> tuple[list[Job], int]:
    """One page in the order of ids, counted from 1, and how many there are in all."""
    query = select(*_COLUMNS).where(*_conditions(wanted))
    rows, total = await find_page(reading, query, (_c.id,), page=page, limit=limit, order=order)
    return [_job(row) for row in rows], total


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    of_status = [is_unknown] if wanted.status is JobStatus.UNKNOWN else equal((_c.status, wanted.status))
    return [
        *equal((_c.job_type, wanted.job_type), (_c.priority, wanted.priority), (_c.runner, wanted.runner)),
        *of_status,
        *within(_c.created_at, wanted.created_from, wanted.created_to),
    ]


def _job(row: Row[*tuple[object, ...]]) -> Job:
    values = row._asdict()
    return Job(**values | {"priority": priority_of(row.priority), "status": status_of(row.status)})


__all__ = [
    "Enqueued",
    "Job",
    "JobAttempt",
    "JobFilter",
    "NewJob",
    "active_job_with_key",
    "attempts_of",
    "cancel",
    "enqueue",
    "find",
    "get",
    "record_job_queued_event",
    "retry",
]

_INSERTIONS: Final = 3


@dataclass(frozen=True, slots=True)
class NewJob:
    """What to do. `parameters` hold no secret and no personal data: everybody who sees the table sees them."""

    job_type: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    runner: str | None = None
    """The service that alone may run it; by default any that knows the type."""
    unique_key: str | None = None
    """Of the jobs with one key, one at a time is queued or processing."""
    max_tries: int = DEFAULT_MAX_ATTEMPTS
    created_by: str | None = None
    request_id: str | None = None


class Enqueued(NamedTuple):
    """The job, and whether it is new: the other way to get one is that its key was taken by it."""

    job_id: int
    is_new: bool


async def enqueue(tx: AsyncConnection, job: NewJob) -> Enqueued:
    """Queue a job and the message that wakes its workers; or give the one that has its key, as it is.

    Raises `DatabaseConflict` where others are at the same key all the time.
    """
    for _ in range(_INSERTIONS):
        if job.unique_key and (holder := await active_job_with_key(tx, job.unique_key)):
            return Enqueued(holder, is_new=False)
        if job_id := await _insert(tx, job):
            await record_job_queued_event(tx, job_id, job.job_type, job.runner, job.request_id)
            return Enqueued(job_id, is_new=True)
    raise DatabaseConflict("another transaction was at the same unique key")


async def active_job_with_key(tx: AsyncConnection, unique_key: str) -> int | None:
    """The job that is queued or processing under the key. One that was ended by hand gives the key up here."""
    query = for_update(select(_c.id, _c.status).where(_c.active_key == unique_key))
    row = (await tx.execute(query)).one_or_none()
    if row is None or status_of(row.status) in UNFINISHED:
        return None if row is None else row.id
    await tx.execute(update(batch_jobs).where(_c.id == row.id).values(active_key=None))
    return None


async def _insert(tx: AsyncConnection, job: NewJob) -> int | None:
    """The new row's id; None when another has taken the key just now."""
    row = {
        "job_type": job.job_type,
        "parameters": dict(job.parameters),
        "priority": job.priority,
        "status": JobStatus.QUEUED,
        "runner": job.runner,
        "unique_key": job.unique_key,
        "active_key": job.unique_key,
        "max_tries": job.max_tries,
        "created_by": job.created_by,
        "request_id": job.request_id,
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
    """Write the message that wakes the workers of this type."""
    now = await tx.scalar(select(now_plus()))
    assert isinstance(now, datetime)
    message = job_queued(JobQueued(job_id, job_type, runner), f"job-{job_id}-{token_hex(8)}", now, request_id)
    await outbox_store.record(tx, [message], now)


async def cancel(tx: AsyncConnection, job_id: int, reason: str) -> Job:
    """Cancel it: at its next checkpoint when it is processing, else at once. Give it as it is then.

    Asking again while it is processing changes nothing. Raises `JobNotFound`, and `JobNotCancellable` when it is
    finished.
    """
    job = await get(tx, job_id, locked=True)
    if job.status in FINISHED:
        raise JobNotCancellable(f"The job is {job.status}.", details={"status": job.status})
    asked = {"cancel_requested_at": now_plus(), "cancel_reason": reason[:REASON_LENGTH]}
    if job.status is not JobStatus.PROCESSING:
        ended = {"status": JobStatus.CANCELLED, "finished_at": now_plus(), "active_key": None}
        await tx.execute(update(batch_jobs).where(_c.id == job_id).values(asked | ended))
    elif job.cancel_requested_at is None:
        await tx.execute(update(batch_jobs).where(_c.id == job_id).values(asked))
    return await get(tx, job_id)


async def retry(tx: AsyncConnection, job_id: int) -> Job:
    """Queue a finished job again, or one whose status is unknown, as a fresh run. Give it as it is then.

    Raises `JobNotFound`, and `InvalidStatusTransition` when it is unfinished or another job has its key now.
    """
    job = await get(tx, job_id, locked=True)
    if job.status in UNFINISHED:
        raise InvalidStatusTransition(f"The job is {job.status}.", details={"status": job.status})
    if job.unique_key and (holder := await active_job_with_key(tx, job.unique_key)):
        raise InvalidStatusTransition("Another job of its kind is queued or running.", details={"jobId": holder})
    now = dict.fromkeys(("queued_at", "next_try_at"), now_plus())
    queued = {"status": JobStatus.QUEUED, "error": None, "active_key": job.unique_key}
    await tx.execute(update(batch_jobs).where(_c.id == job_id).values(queued | now))
    await record_job_queued_event(tx, job_id, job.job_type, job.runner, job.request_id)
    return await get(tx, job_id)
