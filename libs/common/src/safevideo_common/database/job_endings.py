"""How tries end: many at once, each only where its lease still holds; and what becomes of those whose worker died."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Row, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import job_tries
from safevideo_common.database.dialect import Bulk, by_index, for_update_of_free, from_now, upsert
from safevideo_common.database.job_leases import Lease
from safevideo_common.database.job_tries import JobTry
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.jobs import JobStatus, TryOutcome, error_text, is_spent

RESCUED_AT_ONCE: Final = 100
LEASE_LOST: Final = error_text("LEASE_LOST", "its worker died or was frozen past its lease")

_c: Final = batch_jobs.c
_read: Final = select(
    _c.id, _c.job_type, _c.lease_token, _c.active_key, _c.tries, _c.max_tries, _c.progress, _c.next_try_at, _c.worker,
    _c.started_at, _c.cancel_requested_at, from_now().label("now"),
)  # fmt: skip
_named: Final = (_c.id.in_(bindparam("ids", expanding=True)), _c.status == JobStatus.PROCESSING)
_FREE: Final = for_update_of_free(_read.where(*_named))
_HELD: Final = select(_c.id, _c.lease_token).where(*_named)
# By whatever else it is found, each row that is looked at is locked for a moment.
_EXPIRED: Final = for_update_of_free(
    by_index(
        _read.where(
            _c.status == JobStatus.PROCESSING, or_(_c.lease_until <= from_now(), _c.lease_until.is_(None))
        ).limit(RESCUED_AT_ONCE),
        batch_jobs,
        "idx_batch_jobs_due",
    )
)
_CHANGED: Final = (
    "status", "error", "active_key", "next_try_at", "tries", "lease_token", "lease_until", "progress", "result",
    "finished_at",
)  # fmt: skip
# What an insert needs and never writes: the row is there, and locked.
_UNWRITTEN: Final = ("job_type", "parameters", "priority", "created_at", "queued_at", "max_tries")
_WRITE: Final = Bulk(
    upsert(batch_jobs, ("id",), _CHANGED),
    [each.name for each in batch_jobs.columns if each.name in {"id", *_CHANGED, *_UNWRITTEN}],
)
_STATUS: Final = {
    TryOutcome.COMPLETED: JobStatus.COMPLETED,
    TryOutcome.PUT_OFF: JobStatus.QUEUED,
    TryOutcome.FAILED: JobStatus.FAILED,
    TryOutcome.CANCELLED: JobStatus.CANCELLED,
    TryOutcome.DRAINED: JobStatus.QUEUED,
    TryOutcome.LEASE_LOST: JobStatus.QUEUED,
}


class Ending(NamedTuple):
    """How a try has ended."""

    lease: Lease
    outcome: TryOutcome
    error: str | None = None
    result: Mapping[str, object] | None = None
    delay: float = 0.0
    """Seconds until the next try, where there is one."""


class Ended(NamedTuple):
    """What was written."""

    lease: Lease
    job_type: str
    outcome: TryOutcome
    status: JobStatus


async def end(tx: AsyncConnection, endings: Sequence[Ending]) -> tuple[list[Ended], list[Ending]]:
    """Write each ending whose lease still holds. Give what was written, and what has to be tried again.

    That is where somebody has the row locked, an operator say, who must not keep the others from ending. Of an ending
    whose lease is lost nothing is written.
    """
    by_lease = {ending.lease: ending for ending in endings}
    rows = (await tx.execute(_FREE, _ids(by_lease))).all()
    free = [(row, by_lease[lease]) for row in rows if (lease := _lease(row)) in by_lease]
    ended = await _write(tx, [(row, _heeding_cancel(row, ending)) for row, ending in free])
    rest = by_lease.keys() - {each.lease for each in ended}
    held = (await tx.execute(_HELD, _ids(rest))).all() if rest else ()
    return ended, [by_lease[lease] for row in held if (lease := _lease(row)) in rest]


async def rescue(tx: AsyncConnection, delays: Sequence[float]) -> list[Ended]:
    """Take jobs back whose lease has run out. `delays` are seconds by tries, the last standing for all more.

    Of several rescuers at once each gets others. A row that is locked is just being ended, or in a step that extends
    its lease.
    """
    rows = (await tx.execute(_EXPIRED)).all()
    return await _write(tx, [(row, _heeding_cancel(row, _lost(row, delays))) for row in rows])


def _ids(leases: Iterable[Lease]) -> dict[str, list[int]]:
    return {"ids": sorted({lease.job_id for lease in leases})}


def _lease(row: Row[*tuple[object, ...]]) -> Lease:
    return Lease(row.id, row.lease_token)


def _lost(row: Row[*tuple[object, ...]], delays: Sequence[float]) -> Ending:
    if is_spent(row.tries, row.max_tries):
        return Ending(_lease(row), TryOutcome.FAILED, LEASE_LOST)
    delay = delays[min(max(row.tries, 1), len(delays)) - 1]
    return Ending(_lease(row), TryOutcome.LEASE_LOST, LEASE_LOST, delay=delay)


def _heeding_cancel(row: Row[*tuple[object, ...]], ending: Ending) -> Ending:
    """What would run again does not where somebody has asked for that meanwhile."""
    if _STATUS[ending.outcome] is JobStatus.QUEUED and row.cancel_requested_at is not None:
        return ending._replace(outcome=TryOutcome.CANCELLED, error=None)
    return ending


async def _write(tx: AsyncConnection, ended: Sequence[tuple[Row[*tuple[object, ...]], Ending]]) -> list[Ended]:
    await _WRITE.execute(tx, [_changed(row, ending) for row, ending in ended])
    await job_tries.record(tx, [_tried(row, ending) for row, ending in ended])
    return [Ended(_lease(row), row.job_type, ending.outcome, _STATUS[ending.outcome]) for row, ending in ended]


def _changed(row: Row[*tuple[object, ...]], ending: Ending) -> tuple[object, ...]:
    status, now = _STATUS[ending.outcome], row.now
    is_queued = status is JobStatus.QUEUED
    return (
        row.id, "", {}, "", status.value, ending.error, now,
        row.active_key if is_queued else None,
        now,
        now + timedelta(seconds=ending.delay) if is_queued else row.next_try_at,
        row.tries - 1 if ending.outcome is TryOutcome.DRAINED else row.tries,
        0, None, None,
        100 if status is JobStatus.COMPLETED else row.progress,
        ending.result,
        None if is_queued else now,
    )  # fmt: skip


def _tried(row: Row[*tuple[object, ...]], ending: Ending) -> JobTry:
    return JobTry(row.id, row.tries, row.worker, row.started_at, row.now, ending.outcome, ending.error)
