"""Finding the next jobs, at the same cost whatever else the table holds, and claiming them.

The index gives the longest due jobs of each type and priority. They are merged by their due time minus the head start
of their priority (`PRIORITY_AGING`). So all priorities share one queue, and no job waits for ever.
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
from safevideo_common.jobs.model import (
    PRIORITY_AGING,
    AttemptOutcome,
    ClaimedJob,
    JobAttempt,
    JobStatus,
    Lease,
    Priority,
    error_text,
    is_new_run,
)
from safevideo_common.jobs.store import attempts as job_attempts

MAX_RESETS_PER_SCAN: Final = 100
NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})
_INDEX: Final = "idx_batch_jobs_due"
_PRIORITIES: Final = tuple(Priority)
_HEAD_STARTS: Final = [PRIORITY_AGING[priority] for priority in _PRIORITIES]
_UNIQUE_TAKEN: Final = error_text("UNIQUE_TAKEN", "another job with the same key is queued or running")
_RESET_BY_HAND: Final = error_text("RESET_BY_HAND", "the row was changed by hand while its worker had the job")

_c: Final = batch_jobs.c
_may_run_here: Final = or_(_c.runner.is_(None), _c.runner == bindparam("runner"))
_SELECT_RESET: Final = force_index(
    select(_c.id, _c.job_type)
    .where(
        _c.status == JobStatus.QUEUED,
        _c.job_type.in_(bindparam("types", expanding=True)),
        _c.next_try_at > now_plus(),
        _c.error.is_(None),
        _may_run_here,
    )
    .limit(MAX_RESETS_PER_SCAN),
    batch_jobs,
    _INDEX,
)

_has_id: Final = _c.id.in_(bindparam("ids", expanding=True))
_LOCK_DUE: Final = for_update_skip_locked(
    select(
        _c.id, _c.job_type, _c.parameters, _c.error, _c.tries, _c.max_tries, _c.cursor, _c.unique_key, _c.active_key,
        _c.request_id, _c.traceparent, _c.lease_token, _c.worker, _c.started_at, now_plus().label("now"),
    ).where(_has_id, _c.status == JobStatus.QUEUED, or_(_c.next_try_at <= now_plus(), _c.error.is_(None)))
)  # fmt: skip
_claimed_columns: Final[Mapping[str, object]] = {
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
_cleared_columns: Final = dict.fromkeys(("cursor", "result", "finished_at", "total_items"))
_UPDATE: Final = update(batch_jobs).where(_has_id)
_CLAIM_NEW_RUN: Final = _UPDATE.values(
    **_claimed_columns, **_cleared_columns, tries=1, free_tries=0, progress=0, processed_items=0
)
_CLAIM_AGAIN: Final = _UPDATE.values(**_claimed_columns, tries=_c.tries + 1)
_FAIL: Final = _UPDATE.values(status=JobStatus.FAILED, error=_UNIQUE_TAKEN, finished_at=now_plus(), lease_token=None)
_SELECT_ACTIVE_KEYS: Final = select(_c.active_key).where(_c.active_key.in_(bindparam("keys", expanding=True)))


class DueJob(NamedTuple):
    """A job that may run, unless another worker claims it first."""

    job_id: int
    job_type: str


class DueJobs:
    """The due jobs that one service may run, of its job types."""

    def __init__(self, job_types: Iterable[str], service: str) -> None:
        self._job_types: Final = tuple(job_types)
        self._service: Final = service
        self._queries: Final[dict[tuple[str, ...], CompoundSelect[int, datetime, int, str]]] = {}

    async def find(
        self, connection: AsyncConnection, limit: int, capacity: Mapping[str, int] = NO_LIMITS
    ) -> list[DueJob]:
        """Return the next jobs that are due, in the order in which they should run.

        A type in `capacity` has at most that many of them.
        """
        if not (types := self._types_with_capacity(capacity)):
            return []
        if types not in self._queries:
            self._queries[types] = _select_due(types)
        rows = await connection.execute(self._queries[types], {"runner": self._service, "limit": limit})
        ranked = sorted((next_try_at - _HEAD_STARTS[rank], job_id, name) for job_id, next_try_at, rank, name in rows)
        return within_capacity(capacity, (DueJob(job_id, name) for _, job_id, name in ranked))[:limit]

    async def find_reset(self, connection: AsyncConnection, capacity: Mapping[str, int] = NO_LIMITS) -> list[DueJob]:
        """Return jobs in backoff whose error was cleared by hand. It reads all jobs in backoff."""
        types = self._types_with_capacity(capacity)
        rows = await connection.execute(_SELECT_RESET, {"types": types, "runner": self._service})
        return within_capacity(capacity, (DueJob(job_id, name) for job_id, name in rows))

    def _types_with_capacity(self, capacity: Mapping[str, int]) -> tuple[str, ...]:
        return tuple(name for name in self._job_types if capacity.get(name, 1) > 0)


def within_capacity(capacity: Mapping[str, int], jobs: Iterable[DueJob]) -> list[DueJob]:
    """Return the jobs, of each type in `capacity` only the first that many."""
    count: Counter[str] = Counter()
    chosen = []
    for job in jobs:
        count[job.job_type] += 1
        if count[job.job_type] <= capacity.get(job.job_type, count[job.job_type]):
            chosen.append(job)
    return chosen


def _select_due(types: Iterable[str]) -> CompoundSelect[int, datetime, int, str]:
    return union_all(*(_select_first(name, rank) for name in types for rank in range(len(_PRIORITIES))))


def _select_first(job_type: str, rank: int) -> Select[int, datetime, int, str]:
    """Select the first jobs of one type and priority, from the index alone."""
    first = force_index(
        select(_c.id, _c.next_try_at, literal_column(str(rank)).label("rank"), _c.job_type)
        .where(
            _c.status == JobStatus.QUEUED,
            _c.job_type == job_type,
            _c.priority == _PRIORITIES[rank],
            _c.next_try_at <= now_plus(),
            _may_run_here,
        )
        .order_by(_c.next_try_at, _c.id)
        .limit(bindparam("limit")),
        batch_jobs,
        _INDEX,
    ).subquery()
    return select(first)


@dataclass(frozen=True, slots=True)
class Claimer:
    """Claims jobs for one worker."""

    worker: str
    """At most 128 characters; operators read it."""
    lease_seconds: float

    async def claim(self, tx: AsyncConnection, job_ids: Sequence[int]) -> list[ClaimedJob]:
        """Lease the jobs that are still due and that no other transaction has locked, under one new token.

        If a job was reset by hand while a worker had it, record the attempt that lost its lease. If another job has
        its unique key now, fail it. Raises `DatabaseConflict` if such a key is taken at the same time; then no job is
        claimed.
        """
        if not job_ids:
            return []
        rows = (await tx.execute(_LOCK_DUE, {"ids": job_ids})).all()
        await job_attempts.record_attempts(tx, [_reset_attempt(row) for row in rows if row.lease_token is not None])
        failed = await self._fail_taken(
            tx, {row.id: row.unique_key for row in rows if row.unique_key != row.active_key}
        )
        order = {job_id: position for position, job_id in enumerate(job_ids)}
        rows = sorted((row for row in rows if row.id not in failed), key=lambda row: order[row.id])
        token = token_hex(16)
        await self._lease(tx, token, [row.id for row in rows if is_new_run(row.error)], _CLAIM_NEW_RUN)
        await self._lease(tx, token, [row.id for row in rows if not is_new_run(row.error)], _CLAIM_AGAIN)
        return [_claimed(row, token) for row in rows]

    async def _lease(self, tx: AsyncConnection, token: str, job_ids: Sequence[int], statement: Update) -> None:
        if job_ids:
            values = {"token": token, "by": self.worker, "lease_seconds": self.lease_seconds}
            await tx.execute(statement, {"ids": job_ids, **values})

    async def _fail_taken(self, tx: AsyncConnection, keys: Mapping[int, str]) -> set[int]:
        """Fail the jobs whose keys other jobs have. Of several jobs with one key, the first gets it."""
        if not keys:
            return set()
        active_keys = set(await tx.scalars(_SELECT_ACTIVE_KEYS, {"keys": sorted(set(keys.values()))}))
        failed = set()
        for job_id, key in sorted(keys.items()):
            if key in active_keys:
                failed.add(job_id)
            active_keys.add(key)
        if failed:
            await tx.execute(_FAIL, {"ids": sorted(failed)})
        return failed


def _claimed(row: Row[*tuple[object, ...]], token: str) -> ClaimedJob:
    cursor, attempt = (None, 1) if is_new_run(row.error) else (row.cursor, row.tries + 1)
    lease = Lease(row.id, token)
    return ClaimedJob(
        row.id, row.job_type, row.parameters, cursor, attempt, row.max_tries, row.request_id, lease,
        row.traceparent or "",
    )  # fmt: skip


def _reset_attempt(row: Row[*tuple[object, ...]]) -> JobAttempt:
    """Return the attempt whose token is still in a queued row: every regular end removes the token."""
    return JobAttempt(row.id, row.tries, row.worker, row.started_at, row.now, AttemptOutcome.RESET, _RESET_BY_HAND)
