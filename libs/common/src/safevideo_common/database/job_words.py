"""Words in `status` and `priority` that somebody has mistyped by hand: by them no query finds the job."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import by_index
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import KNOWN_STATUSES, JobStatus, Priority, priority_of, status_of

WORDS_AT_MOST: Final = 50
MENDED_AT_ONCE: Final = 500
_INDEX: Final = "idx_batch_jobs_due"

_c: Final = batch_jobs.c
is_unknown: Final[ColumnElement[bool]] = _c.status.not_in(KNOWN_STATUSES)
"""By the database's own comparison: on MySQL case and spaces at the end say nothing."""
_STATUSES: Final = by_index(
    select(_c.status, func.count().label("jobs")).where(is_unknown).group_by(_c.status).limit(WORDS_AT_MOST),
    batch_jobs,
    _INDEX,
)
_PRIORITIES: Final = by_index(
    select(_c.id, _c.priority)
    .where(_c.status == JobStatus.QUEUED, _c.priority.not_in(tuple(Priority)))
    .limit(MENDED_AT_ONCE),
    batch_jobs,
    _INDEX,
)
_MEND_STATUS: Final = update(batch_jobs).where(_c.status == bindparam("word")).values(status=bindparam("meant"))
_MEND_PRIORITY: Final = (
    update(batch_jobs).where(_c.id.in_(bindparam("ids", expanding=True))).values(priority=bindparam("meant"))
)


class Mistyped(NamedTuple):
    """What a look has found."""

    statuses: dict[str, JobStatus]
    """That are near enough to what they should be."""
    priorities: dict[int, str]
    """Of queued jobs, by their ids; some of them."""
    unknown: int
    """Jobs with a status of which nobody can say what it should be."""


async def mistyped(reading: AsyncConnection) -> Mistyped:
    """Look for them."""
    statuses = {row.status: row.jobs for row in await reading.execute(_STATUSES)}
    priorities = {row.id: row.priority for row in await reading.execute(_PRIORITIES)}
    meant = {word: status_of(word) for word in statuses}
    unknown = sum(jobs for word, jobs in statuses.items() if meant[word] is JobStatus.UNKNOWN)
    return Mistyped(
        {word: status for word, status in meant.items() if status is not JobStatus.UNKNOWN}, priorities, unknown
    )


async def mend(tx: AsyncConnection, found: Mistyped) -> None:
    """Write what was meant. A priority that is no word at all is the normal one. Done again, it changes nothing."""
    for word, status in found.statuses.items():
        await tx.execute(_MEND_STATUS, {"word": word, "meant": status})
    for priority, ids in _by_meaning(found.priorities):
        await tx.execute(_MEND_PRIORITY, {"ids": ids, "meant": priority})


def _by_meaning(words: Mapping[int, str]) -> Iterator[tuple[Priority, list[int]]]:
    for priority in Priority:
        if ids := [job_id for job_id, word in words.items() if priority_of(word) is priority]:
            yield priority, ids
