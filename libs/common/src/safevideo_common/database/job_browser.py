"""The jobs as the API and the tools show them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update
from safevideo_common.database.job_words import is_unknown
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import JobStatus, Priority, priority_of, status_of
from safevideo_common.errors import JobNotFound

Order = Literal["asc", "desc"]

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
    conditions = _conditions(wanted)
    total = await reading.scalar(select(func.count()).select_from(batch_jobs).where(*conditions))
    by = _c.id if order == "asc" else _c.id.desc()
    rows = await reading.execute(
        select(*_COLUMNS).where(*conditions).order_by(by).limit(limit).offset((page - 1) * limit)
    )
    return [_job(row) for row in rows], total or 0


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    equal = (
        (_c.job_type, wanted.job_type),
        (_c.priority, wanted.priority),
        (_c.runner, wanted.runner),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal if value is not None]
    if wanted.status is not None:
        conditions.append(is_unknown if wanted.status is JobStatus.UNKNOWN else _c.status == wanted.status)
    if wanted.created_from is not None:
        conditions.append(_c.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(_c.created_at < wanted.created_to)
    return conditions


def _job(row: Row[*tuple[object, ...]]) -> Job:
    values = row._asdict()
    return Job(**values | {"priority": priority_of(row.priority), "status": status_of(row.status)})
