"""How long the queue is, and what keeps its table from growing for ever."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Float, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import force_index, now_plus
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.jobs.model import FINISHED, KNOWN_STATUSES, JobStatus, Priority, priority_of, status_of

MAX_COUNTED: Final = 100_000
"""Beyond this a queue is only known to be long."""
MAX_KINDS: Final = 50
"""A type is a word in a column that anybody may have written; a label of a metric is not."""

_c: Final = batch_jobs.c
_queued: Final = force_index(
    select(_c.job_type, _c.priority, _c.next_try_at).where(_c.status == JobStatus.QUEUED).limit(MAX_COUNTED),
    batch_jobs,
    "idx_batch_jobs_due",
).subquery("queued")
_DEPTHS: Final = (
    select(
        _queued.c.job_type,
        _queued.c.priority,
        func.count().label("jobs"),
        func.min(_queued.c.next_try_at, type_=_c.next_try_at.type).label("since"),
        now_plus().label("now"),
    )
    .group_by(_queued.c.job_type, _queued.c.priority)
    .limit(MAX_KINDS)
)
_NEXT: Final = (
    select(_c.id, _c.status, _c.created_at, _c.finished_at, now_plus(bindparam("back", type_=Float)).label("bound"))
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


class PrunedJobs(NamedTuple):
    """What one chunk did; `last` is where the next goes on, None at the end."""

    deleted: int
    last: int | None


async def depths(reading: AsyncConnection) -> list[QueueDepth]:
    """What waits, counted up to `MAX_COUNTED` in all."""
    return [
        QueueDepth(row.job_type, row.priority, row.jobs, max(0.0, (row.now - row.since).total_seconds()))
        for row in await reading.execute(_DEPTHS)
    ]


async def prune(tx: AsyncConnection, after: int, keep_seconds: float, rows: int) -> PrunedJobs:
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
    return PrunedJobs(len(old), found[-1].id if is_more else None)


# Words in `status` and `priority` that somebody has mistyped by hand: by them no query finds the job.


MAX_INVALID_VALUES: Final = 50
MAX_NORMALIZED_PER_RUN: Final = 500
_INDEX: Final = "idx_batch_jobs_due"

is_unknown: Final[ColumnElement[bool]] = _c.status.not_in(KNOWN_STATUSES)
"""By the database's own comparison: on MySQL case and spaces at the end say nothing."""
_STATUSES: Final = force_index(
    select(_c.status, func.count().label("jobs")).where(is_unknown).group_by(_c.status).limit(MAX_INVALID_VALUES),
    batch_jobs,
    _INDEX,
)
_PRIORITIES: Final = force_index(
    select(_c.id, _c.priority)
    .where(_c.status == JobStatus.QUEUED, _c.priority.not_in(tuple(Priority)))
    .limit(MAX_NORMALIZED_PER_RUN),
    batch_jobs,
    _INDEX,
)
_NORMALIZE_STATUS: Final = update(batch_jobs).where(_c.status == bindparam("word")).values(status=bindparam("meant"))
_NORMALIZE_PRIORITY: Final = (
    update(batch_jobs).where(_c.id.in_(bindparam("ids", expanding=True))).values(priority=bindparam("meant"))
)


class InvalidValues(NamedTuple):
    """What a look has found."""

    statuses: dict[str, JobStatus]
    """That are near enough to what they should be."""
    priorities: dict[int, str]
    """Of queued jobs, by their ids; some of them."""
    unknown: int
    """Jobs with a status of which nobody can say what it should be."""


async def find_invalid(reading: AsyncConnection) -> InvalidValues:
    """Look for them."""
    statuses = {row.status: row.jobs for row in await reading.execute(_STATUSES)}
    priorities = {row.id: row.priority for row in await reading.execute(_PRIORITIES)}
    meant = {word: status_of(word) for word in statuses}
    unknown = sum(jobs for word, jobs in statuses.items() if meant[word] is JobStatus.UNKNOWN)
    return InvalidValues(
        {word: status for word, status in meant.items() if status is not JobStatus.UNKNOWN}, priorities, unknown
    )


async def normalize(tx: AsyncConnection, found: InvalidValues) -> None:
    """Write what was meant. A priority that is no word at all is the normal one. Done again, it changes nothing."""
    for word, status in found.statuses.items():
        await tx.execute(_NORMALIZE_STATUS, {"word": word, "meant": status})
    for priority, ids in _by_meaning(found.priorities):
        await tx.execute(_NORMALIZE_PRIORITY, {"ids": ids, "meant": priority})


def _by_meaning(words: Mapping[int, str]) -> Iterator[tuple[Priority, list[int]]]:
    for priority in Priority:
        if ids := [job_id for job_id, word in words.items() if priority_of(word) is priority]:
            yield priority, ids
