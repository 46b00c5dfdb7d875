"""Taking jobs from the queue, many at once: each is leased to one claimer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, NamedTuple

from sqlalchemy import Float, Row, Update, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import job_tries
from safevideo_common.database.dialect import for_update_of_free, from_now
from safevideo_common.database.job_leases import Lease
from safevideo_common.database.job_tries import JobTry
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import JobStatus, TryOutcome, error_text, is_fresh

_UNIQUE_TAKEN: Final = error_text("UNIQUE_TAKEN", "another job with the same key is queued or running")
_RESET_BY_HAND: Final = error_text("RESET_BY_HAND", "the row was changed by hand while its worker had the job")

_c: Final = batch_jobs.c
_may_run: Final = (_c.status == JobStatus.QUEUED, or_(_c.next_try_at <= from_now(), _c.error.is_(None)))
_named: Final = _c.id.in_(bindparam("ids", expanding=True))
_LOCK: Final = for_update_of_free(
    select(
        _c.id, _c.job_type, _c.parameters, _c.error, _c.tries, _c.max_tries, _c.cursor, _c.unique_key, _c.active_key,
        _c.request_id, _c.lease_token, _c.worker, _c.started_at, from_now().label("now"),
    ).where(_named, *_may_run)
)  # fmt: skip
_FORGOTTEN: Final = dict.fromkeys(("cursor", "result", "finished_at", "total_items"))
_TAKEN: Final[Mapping[str, object]] = {
    "status": JobStatus.PROCESSING,
    "lease_token": bindparam("token"),
    "lease_until": from_now(bindparam("lease_seconds", type_=Float)),
    "heartbeat_at": from_now(),
    "worker": bindparam("by"),
    "started_at": from_now(),
    "active_key": _c.unique_key,
    "cancel_requested_at": None,
    "cancel_reason": None,
}
_TAKE: Final = update(batch_jobs).where(_named)
_TAKE_FRESH: Final = _TAKE.values(**_TAKEN, **_FORGOTTEN, tries=1, progress=0, processed_items=0)
_RESUME: Final = _TAKE.values(**_TAKEN, tries=_c.tries + 1)
_REFUSE: Final = _TAKE.values(status=JobStatus.FAILED, error=_UNIQUE_TAKEN, finished_at=from_now(), lease_token=None)
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
        await job_tries.record(tx, [_reset_try(row) for row in rows if row.lease_token is not None])
        refused = await self._refuse(tx, {row.id: row.unique_key for row in rows if row.unique_key != row.active_key})
        order = {job_id: place for place, job_id in enumerate(job_ids)}
        rows = sorted((row for row in rows if row.id not in refused), key=lambda row: order[row.id])
        token = token_hex(16)
        await self._lease(tx, token, [row.id for row in rows if is_fresh(row.error)], _TAKE_FRESH)
        await self._lease(tx, token, [row.id for row in rows if not is_fresh(row.error)], _RESUME)
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
    cursor, tries = (None, 1) if is_fresh(row.error) else (row.cursor, row.tries + 1)
    lease = Lease(row.id, token)
    return ClaimedJob(row.id, row.job_type, row.parameters, cursor, tries, row.max_tries, row.request_id, lease)


def _reset_try(row: Row[*tuple[object, ...]]) -> JobTry:
    """Whatever ends a try takes its token out of the row: this one was never ended."""
    return JobTry(row.id, row.tries, row.worker, row.started_at, row.now, TryOutcome.RESET, _RESET_BY_HAND)
