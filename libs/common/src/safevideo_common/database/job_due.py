"""Finding the jobs that are next, at the same cost whatever else the table holds.

Of each type and priority the index gives those that are due longest. They are merged by the moment since which they are
due, less the head start of their priority: so all priorities are in one queue, and nobody waits for ever.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import CompoundSelect, Select, bindparam, literal_column, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import by_index, from_now
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import HEAD_START, JobStatus, Priority

RESETS_AT_ONCE: Final = 100
NO_BOUNDS: Final[Mapping[str, int]] = MappingProxyType({})
_INDEX: Final = "idx_batch_jobs_due"
_PRIORITIES: Final = tuple(Priority)
_STARTS: Final = [HEAD_START[priority] for priority in _PRIORITIES]

_c: Final = batch_jobs.c
_is_ours: Final = or_(_c.runner.is_(None), _c.runner == bindparam("runner"))
_RESET: Final = by_index(
    select(_c.id, _c.job_type)
    .where(
        _c.status == JobStatus.QUEUED,
        _c.job_type.in_(bindparam("types", expanding=True)),
        _c.next_try_at > from_now(),
        _c.error.is_(None),
        _is_ours,
    )
    .limit(RESETS_AT_ONCE),
    batch_jobs,
    _INDEX,
)


class Found(NamedTuple):
    """A job that may run, unless somebody is quicker."""

    job_id: int
    job_type: str


class DueJobs:
    """Those that one service may run, of the types that it knows."""

    def __init__(self, job_types: Iterable[str], service: str) -> None:
        self._job_types: Final = tuple(job_types)
        self._service: Final = service
        self._queries: Final[dict[tuple[str, ...], CompoundSelect[int, datetime, int, str]]] = {}

    async def find(self, reading: AsyncConnection, limit: int, room: Mapping[str, int] = NO_BOUNDS) -> list[Found]:
        """The next jobs that may run by their time, in the order in which they should.

        Of a type in `room` there are no more than it says.
        """
        if not (types := self._open(room)):
            return []
        if types not in self._queries:
            self._queries[types] = _due(types)
        rows = await reading.execute(self._queries[types], {"runner": self._service, "limit": limit})
        ranked = sorted((next_try_at - _STARTS[place], job_id, name) for job_id, next_try_at, place, name in rows)
        return within(room, (Found(job_id, name) for _, job_id, name in ranked))[:limit]

    async def find_reset(self, reading: AsyncConnection, room: Mapping[str, int] = NO_BOUNDS) -> list[Found]:
        """Jobs in backoff whose error was cleared by hand. It looks at all that is in backoff."""
        rows = await reading.execute(_RESET, {"types": self._open(room), "runner": self._service})
        return within(room, (Found(job_id, name) for job_id, name in rows))

    def _open(self, room: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(name for name in self._job_types if room.get(name, 1) > 0)


def within(room: Mapping[str, int], found: Iterable[Found]) -> list[Found]:
    """What there is room for: of a type in `room` the first so many."""
    taken: Counter[str] = Counter()
    chosen = []
    for each in found:
        taken[each.job_type] += 1
        if taken[each.job_type] <= room.get(each.job_type, taken[each.job_type]):
            chosen.append(each)
    return chosen


def _due(types: Iterable[str]) -> CompoundSelect[int, datetime, int, str]:
    return union_all(*(_arm(name, place) for name in types for place in range(len(_PRIORITIES))))


def _arm(job_type: str, place: int) -> Select[int, datetime, int, str]:
    """The first of one type and priority, from the index alone."""
    arm = by_index(
        select(_c.id, _c.next_try_at, literal_column(str(place)).label("place"), _c.job_type)
        .where(
            _c.status == JobStatus.QUEUED,
            _c.job_type == job_type,
            _c.priority == _PRIORITIES[place],
            _c.next_try_at <= from_now(),
            _is_ours,
        )
        .order_by(_c.next_try_at, _c.id)
        .limit(bindparam("limit")),
        batch_jobs,
        _INDEX,
    ).subquery()
    return select(arm)
