"""How long the queue is, and what keeps its table from growing for ever."""

from typing import Final, NamedTuple

from sqlalchemy import Float, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import by_index, from_now
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.domain.jobs import FINISHED, JobStatus, status_of

COUNTED_AT_MOST: Final = 100_000
"""Beyond this a queue is only known to be long."""
KINDS_AT_MOST: Final = 50
"""A type is a word in a column that anybody may have written; a label of a metric is not."""

_c: Final = batch_jobs.c
_queued: Final = by_index(
    select(_c.job_type, _c.priority, _c.next_try_at).where(_c.status == JobStatus.QUEUED).limit(COUNTED_AT_MOST),
    batch_jobs,
    "idx_batch_jobs_due",
).subquery("queued")
_DEPTHS: Final = (
    select(
        _queued.c.job_type,
        _queued.c.priority,
        func.count().label("jobs"),
        func.min(_queued.c.next_try_at, type_=_c.next_try_at.type).label("since"),
        from_now().label("now"),
    )
    .group_by(_queued.c.job_type, _queued.c.priority)
    .limit(KINDS_AT_MOST)
)
_NEXT: Final = (
    select(_c.id, _c.status, _c.created_at, _c.finished_at, from_now(bindparam("back", type_=Float)).label("bound"))
    .where(_c.id > bindparam("after"))
    .order_by(_c.id)
    .limit(bindparam("limit"))
)


class QueueDepth(NamedTuple):
    """What waits of one type and priority."""

    job_type: str
    priority: str
    jobs: int
    oldest_seconds: float
    """For so long the first has been due; 0 where none is."""


class Swept(NamedTuple):
    """What one chunk did; `last` is where the next goes on, None at the end."""

    deleted: int
    last: int | None


async def depths(reading: AsyncConnection) -> list[QueueDepth]:
    """What waits, counted up to `COUNTED_AT_MOST` in all."""
    return [
        QueueDepth(row.job_type, row.priority, row.jobs, max(0.0, (row.now - row.since).total_seconds()))
        for row in await reading.execute(_DEPTHS)
    ]


async def sweep(tx: AsyncConnection, after: int, keep_seconds: float, rows: int) -> Swept:
    """Look at the next `rows` by id, and delete what was finished longer ago than that, with its tries.

    Ids rise with time, so it ends at the first job that is too young to have been finished for so long.
    """
    found = (await tx.execute(_NEXT, {"after": after, "back": -keep_seconds, "limit": rows})).all()
    finished = [row for row in found if row.finished_at and status_of(row.status) in FINISHED]
    old = [row.id for row in finished if row.finished_at < row.bound]
    if old:
        await tx.execute(delete(batch_jobs).where(_c.id.in_(old), _c.status.in_(FINISHED)))
        await tx.execute(delete(batch_job_tries).where(batch_job_tries.c.job_id.in_(old)))
    is_more = len(found) == rows and found[-1].created_at < found[-1].bound
    return Swept(len(old), found[-1].id if is_more else None)
