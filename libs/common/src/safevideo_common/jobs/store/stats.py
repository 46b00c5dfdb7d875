"""The length of the queue, the pruning of old jobs, and words in `status` and `priority` that were mistyped by hand."""

from collections import defaultdict
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Float, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import force_index, now_plus
from safevideo_common.database.tables import batch_job_tries, batch_jobs
from safevideo_common.jobs.model import FINISHED, KNOWN_STATUSES, JobStatus, Priority, priority_of, status_of

MAX_COUNTED: Final = 100_000
"""A longer queue is not counted to its end."""
MAX_KINDS: Final = 50
"""A bound on the labels of a metric: anybody may have written any word into the column `job_type`."""
MAX_INVALID_VALUES: Final = 50
MAX_NORMALIZED_PER_RUN: Final = 500
_INDEX: Final = "idx_batch_jobs_due"

_c: Final = batch_jobs.c
_queued: Final = force_index(
    select(_c.job_type, _c.priority, _c.next_try_at).where(_c.status == JobStatus.QUEUED).limit(MAX_COUNTED),
    batch_jobs,
    _INDEX,
).subquery("queued")
_SELECT_DEPTHS: Final = (
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
_SELECT_CHUNK: Final = (
    select(_c.id, _c.status, _c.created_at, _c.finished_at, now_plus(bindparam("back", type_=Float)).label("bound"))
    .where(_c.id > bindparam("after"))
    .order_by(_c.id)
    .limit(bindparam("limit"))
)

is_unknown: Final[ColumnElement[bool]] = _c.status.not_in(KNOWN_STATUSES)
"""The condition of status UNKNOWN, by the database's comparison: MySQL ignores case and spaces at the end."""
_SELECT_STATUSES: Final = force_index(
    select(_c.status, func.count().label("jobs")).where(is_unknown).group_by(_c.status).limit(MAX_INVALID_VALUES),
    batch_jobs,
    _INDEX,
)
_SELECT_PRIORITIES: Final = force_index(
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


class QueueDepth(NamedTuple):
    """The queued jobs of one type and priority."""

    job_type: str
    priority: str
    jobs: int
    oldest_seconds: float
    """The time since which the first one is due; 0 if none is due."""


class PrunedJobs(NamedTuple):
    """The result of pruning one chunk."""

    deleted: int
    last: int | None
    """The id after which the next chunk begins; None at the end."""


class InvalidValues(NamedTuple):
    """Words in `status` and `priority` by which no query finds the job."""

    statuses: dict[str, JobStatus]
    """Words that differ from a status only in case or spaces."""
    priorities: dict[int, str]
    """Words of queued jobs, by id; at most `MAX_NORMALIZED_PER_RUN`."""
    unknown: int
    """Number of jobs with a status that means nothing."""


async def depths(connection: AsyncConnection) -> list[QueueDepth]:
    """Count the queued jobs by type and priority, up to `MAX_COUNTED` in total."""
    return [
        QueueDepth(row.job_type, row.priority, row.jobs, max(0.0, (row.now - row.since).total_seconds()))
        for row in await connection.execute(_SELECT_DEPTHS)
    ]


_HAS_JOB: Final = select(_c.id).where(_c.id == batch_job_tries.c.job_id).exists()


async def prune(tx: AsyncConnection, after: int, keep_seconds: float, rows: int) -> PrunedJobs:
    """Read the next `rows` by id; delete jobs that finished longer ago than `keep_seconds`, with their attempts.

    Ids rise with time, so pruning ends at the first job that is younger than that.
    """
    chunk = (await tx.execute(_SELECT_CHUNK, {"after": after, "back": -keep_seconds, "limit": rows})).all()
    finished = [row for row in chunk if row.finished_at and status_of(row.status) in FINISHED]
    old = [row.id for row in finished if row.finished_at < row.bound]
    if old:
        await tx.execute(delete(batch_jobs).where(_c.id.in_(old), _c.status.in_(FINISHED)))
        # A job that was retried since it was read is not deleted, and keeps its attempts.
        await tx.execute(delete(batch_job_tries).where(batch_job_tries.c.job_id.in_(old), ~_HAS_JOB))
    has_more = len(chunk) == rows and chunk[-1].created_at < chunk[-1].bound
    return PrunedJobs(len(old), chunk[-1].id if has_more else None)


async def find_invalid(connection: AsyncConnection) -> InvalidValues:
    """Find invalid words."""
    jobs_by_word = {row.status: row.jobs for row in await connection.execute(_SELECT_STATUSES)}
    meant = {word: status_of(word) for word in jobs_by_word}
    return InvalidValues(
        {word: status for word, status in meant.items() if status is not JobStatus.UNKNOWN},
        {row.id: row.priority for row in await connection.execute(_SELECT_PRIORITIES)},
        sum(jobs for word, jobs in jobs_by_word.items() if meant[word] is JobStatus.UNKNOWN),
    )


async def normalize(tx: AsyncConnection, invalid: InvalidValues) -> None:
    """Replace each word by the status or priority that it means. Idempotent."""
    for word, status in invalid.statuses.items():
        await tx.execute(_NORMALIZE_STATUS, {"word": word, "meant": status})
    ids_by_priority: defaultdict[Priority, list[int]] = defaultdict(list)
    for job_id, word in invalid.priorities.items():
        ids_by_priority[priority_of(word)].append(job_id)
    for priority, ids in ids_by_priority.items():
        await tx.execute(_NORMALIZE_PRIORITY, {"ids": ids, "meant": priority})
