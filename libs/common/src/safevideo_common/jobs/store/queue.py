"""Finding the jobs that are next, at the same cost whatever else the table holds.

Of each type and priority the index gives those that are due longest. They are merged by the moment since which they are
due, less the head start of their priority: so all priorities are in one queue, and nobody waits for ever.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Float,
    Row,
    Select,
    Update,
    bindparam,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import for_update_skip_locked, force_index, now_plus
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.model import PRIORITY_AGING, AttemptOutcome, JobStatus, Priority, error_text, is_new_run
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import JobAttempt, Lease

MAX_RESETS_PER_SCAN: Final = 100
NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})
_INDEX: Final = "idx_batch_jobs_due"
_PRIORITIES: Final = tuple(Priority)
_STARTS: Final = [PRIORITY_AGING[priority] for priority in _PRIORITIES]

_c: Final = batch_jobs.c
_is_ours: Final = or_(_c.runner.is_(None), _c.runner == bindparam("runner"))
_RESET: Final = force_index(
    select(_c.id, _c.job_type)
    .where(
        _c.status == JobStatus.QUEUED,
        _c.job_type.in_(bindparam("types", expanding=True)),
        _c.next_try_at > now_plus(),
        _c.error.is_(None),
        _is_ours,
    )
    .limit(MAX_RESETS_PER_SCAN),
    batch_jobs,
    _INDEX,
)


class DueJob(NamedTuple):
    """A job that may run, unless somebody is quicker."""

    job_id: int
    job_type: str


class DueJobs:
    """Those that one service may run, of the types that it knows."""

    def __init__(self, job_types: Iterable[str], service: str) -> None:
        self._job_types: Final = tuple(job_types)
        self._service: Final = service
        self._queries: Final[dict[tuple[str, ...], CompoundSelect[int, datetime, int, str]]] = {}

    async def find(self, reading: AsyncConnection, limit: int, room: Mapping[str, int] = NO_LIMITS) -> list[DueJob]:
        """The next jobs that may run by their time, in the order in which they should.

        Of a type in `room` there are no more than it says.
        """
        if not (types := self._open(room)):
            return []
        if types not in self._queries:
            self._queries[types] = _due(types)
        rows = await reading.execute(self._queries[types], {"runner": self._service, "limit": limit})
        ranked = sorted((next_try_at - _STARTS[place], job_id, name) for job_id, next_try_at, place, name in rows)
        return within(room, (DueJob(job_id, name) for _, job_id, name in ranked))[:limit]

    async def find_reset(self, reading: AsyncConnection, room: Mapping[str, int] = NO_LIMITS) -> list[DueJob]:
        """Jobs in backoff whose error was cleared by hand. It looks at all that is in backoff."""
        rows = await reading.execute(_RESET, {"types": self._open(room), "runner": self._service})
        return within(room, (DueJob(job_id, name) for job_id, name in rows))

    def _open(self, room: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(name for name in self._job_types if room.get(name, 1) > 0)


def within(room: Mapping[str, int], found: Iterable[DueJob]) -> list[DueJob]:
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
    arm = force_index(
        select(_c.id, _c.next_try_at, literal_column(str(place)).label("place"), _c.job_type)
        .where(
            _c.status == JobStatus.QUEUED,
            _c.job_type == job_type,
            _c.priority == _PRIORITIES[place],
            _c.next_try_at <= now_plus(),
            _is_ours,
        )
        .order_by(_c.next_try_at, _c.id)
        .limit(bindparam("limit")),
        batch_jobs,
        _INDEX,
    ).subquery()
    return select(arm)


# Taking jobs from the queue, many at once: each is leased to one claimer.


_UNIQUE_TAKEN: Final = error_text("UNIQUE_TAKEN", "another job with the same key is queued or running")
_RESET_BY_HAND: Final = error_text("RESET_BY_HAND", "the row was changed by hand while its worker had the job")

_may_run: Final = (_c.status == JobStatus.QUEUED, or_(_c.next_try_at <= now_plus(), _c.error.is_(None)))
_named: Final = _c.id.in_(bindparam("ids", expanding=True))
_LOCK: Final = for_update_skip_locked(
    select(
        _c.id, _c.job_type, _c.parameters, _c.error, _c.tries, _c.max_tries, _c.cursor, _c.unique_key, _c.active_key,
        _c.request_id, _c.lease_token, _c.worker, _c.started_at, now_plus().label("now"),
    ).where(_named, *_may_run)
)  # fmt: skip
_FORGOTTEN: Final = dict.fromkeys(("cursor", "result", "finished_at", "total_items"))
_TAKEN: Final[Mapping[str, object]] = {
    "status": JobStatus.PROCESSING,
    "lease_token": bindparam("token"),
    "lease_until": now_plus(bindparam("lease_seconds", type_=Float)),
    "heartbeat_at": now_plus(),
    "worker": bindparam("by"),
    "started_at": now_plus(),
    "active_key": _c.unique_key,
    "cancel_requested_at": None,
    "cancel_reason": None,
}
_TAKE: Final = update(batch_jobs).where(_named)
_TAKE_FRESH: Final = _TAKE.values(**_TAKEN, **_FORGOTTEN, tries=1, progress=0, processed_items=0)
_RESUME: Final = _TAKE.values(**_TAKEN, tries=_c.tries + 1)
_REFUSE: Final = _TAKE.values(status=JobStatus.FAILED, error=_UNIQUE_TAKEN, finished_at=now_plus(), lease_token=None)
_HOLDERS: Final = select(_c.active_key).where(_c.active_key.in_(bindparam("keys", expanding=True)))


class ClaimedJob(NamedTuple):
    """A job, leased to us under the token until the lease ends."""

    job_id: int
    job_type: str
    parameters: Mapping[str, object]
    cursor: Mapping[str, object] | None
    tries: int
    max_tries: int
    request_id: str | None
    lease: Lease


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who takes jobs, for how long at a time."""

    worker: str
    """At most 128 characters; operators read it."""
    lease_seconds: float

    async def take(self, tx: AsyncConnection, job_ids: Sequence[int]) -> list[ClaimedJob]:
        """Lease those of the jobs that may still run and that nobody else is at, under one new token.

        Of a job that was reset by hand while a worker had it, the try that lost its lease is written down; where
        another has its unique key now, it fails. Raises `DatabaseConflict` where such a key is taken this very moment:
        nothing is claimed then.
        """
        if not job_ids:
            return []
        rows = (await tx.execute(_LOCK, {"ids": job_ids})).all()
        await job_attempts.record_attempts(tx, [_reset_try(row) for row in rows if row.lease_token is not None])
        refused = await self._refuse(tx, {row.id: row.unique_key for row in rows if row.unique_key != row.active_key})
        order = {job_id: place for place, job_id in enumerate(job_ids)}
        rows = sorted((row for row in rows if row.id not in refused), key=lambda row: order[row.id])
        token = token_hex(16)
        await self._lease(tx, token, [row.id for row in rows if is_new_run(row.error)], _TAKE_FRESH)
        await self._lease(tx, token, [row.id for row in rows if not is_new_run(row.error)], _RESUME)
        return [_claimed(row, token) for row in rows]

    async def _lease(self, tx: AsyncConnection, token: str, job_ids: Sequence[int], statement: Update) -> None:
        if job_ids:
            values = {"token": token, "by": self.worker, "lease_seconds": self.lease_seconds}
            await tx.execute(statement, {"ids": job_ids, **values})

    async def _refuse(self, tx: AsyncConnection, keys: Mapping[int, str]) -> set[int]:
        """Fail the jobs whose keys others have; of several with one key the first takes it."""
        if not keys:
            return set()
        taken = set(await tx.scalars(_HOLDERS, {"keys": sorted(set(keys.values()))}))
        refused = set()
        for job_id, key in sorted(keys.items()):
            if key in taken:
                refused.add(job_id)
            taken.add(key)
        if refused:
            await tx.execute(_REFUSE, {"ids": sorted(refused)})
        return refused


def _claimed(row: Row[*tuple[object, ...]], token: str) -> ClaimedJob:
    cursor, tries = (None, 1) if is_new_run(row.error) else (row.cursor, row.tries + 1)
    lease = Lease(row.id, token)
    return ClaimedJob(row.id, row.job_type, row.parameters, cursor, tries, row.max_tries, row.request_id, lease)


def _reset_try(row: Row[*tuple[object, ...]]) -> JobAttempt:
    """Whatever ends a try takes its token out of the row: this one was never ended."""
    return JobAttempt(row.id, row.tries, row.worker, row.started_at, row.now, AttemptOutcome.RESET, _RESET_BY_HAND)
