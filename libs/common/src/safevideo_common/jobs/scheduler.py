"""Periodic jobs: the table of them, and who queues them when it is time.

Every process looks. A slot fires in one transaction, which moves the entry's last slot forward and queues the job: so
it fires once, and what nobody was there for fires once when somebody is. The times are the database's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from random import uniform
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import schedule_fires
from safevideo_common.errors import DatabaseConflict, SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.jobs.store.admin import NewJob
from safevideo_common.observability.logs import FilteringBoundLogger

# When a periodic job is due. A slot is a time at which it is due, in UTC; of missed slots only the last counts.


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """A slot every so long, counted from 1970."""

    every: timedelta

    def slot_at(self, now: datetime) -> datetime:
        """Return the last slot that is not after `now`."""
        return now - (now - _EPOCH) % self.every


@dataclass(frozen=True, slots=True)
class Daily:
    """A slot a day, at a time in UTC."""

    at: time

    def slot_at(self, now: datetime) -> datetime:
        """Return the last slot that is not after `now`."""
        today = datetime.combine(now.astimezone(UTC), self.at, UTC)
        return today if today <= now else today - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """An entry of the schedule: a job to be queued once a slot, whatever number of processes look at the clock."""

    name: str
    """At most 64 characters, and never used for another entry."""
    job_type: str
    when: Interval | Daily
    parameters: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.LOW


CHECK_INTERVAL: Final = 10.0
CREATED_BY: Final = "schedule"

PERIODIC_JOBS: Final[Sequence[PeriodicJob]] = (PeriodicJob("job-housekeeping", "job_housekeeping", Daily(time(3, 30))),)


@dataclass(frozen=True, slots=True)
class PeriodicJobEnqueuer:
    """Run by one task in every process."""

    database: Database
    entries: Sequence[PeriodicJob]
    queued: Callable[[], None]
    """Called when a job was queued."""
    metrics: JobMetrics
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. What fails is tried again at the next look."""
        while True:
            try:
                await self.look()
            except SafeVideoError as error:
                self.log.warning("Schedule put off", code=error.code, reason=error.message)
            await asyncio.sleep(uniform(CHECK_INTERVAL / 2, CHECK_INTERVAL))  # noqa: S311 - jitter guards nothing

    async def look(self) -> int:
        """Queue what is due; how many jobs. Raises the errors of the database."""
        async with self.database.reading() as reading:
            now, fired = await last_fires(reading)
        due = [(entry, entry.when.slot_at(now)) for entry in self.entries]
        fires = [await self._fire(entry, slot) for entry, slot in due if _is_later(slot, fired.get(entry.name))]
        if any(fires):
            self.queued()
        return sum(fires)

    async def _fire(self, entry: PeriodicJob, slot: datetime) -> bool:
        job = NewJob(
            entry.job_type,
            entry.parameters,
            entry.priority,
            unique_key=f"{entry.name}@{slot:%Y-%m-%dT%H:%M:%SZ}",
            created_by=CREATED_BY,
        )
        try:
            async with self.database.transaction() as tx:
                if not await fire(tx, entry.name, slot):
                    return False
                await job_admin.enqueue(tx, job)
        except DatabaseConflict:
            return False  # another is at it; if it fails, the next look finds the slot
        self.metrics.fired(entry.name)
        self.log.info("Schedule fired", name=entry.name, job_type=entry.job_type)
        return True


def _is_later(slot: datetime, fired: datetime | None) -> bool:
    return fired is None or slot > fired


# Which slot of each entry of the schedule was the last to fire.


_c: Final = schedule_fires.c


async def last_fires(reading: AsyncConnection) -> tuple[datetime, dict[str, datetime]]:
    """The database's time, and the last slot by entry."""
    now = await reading.scalar(select(now_plus()))
    assert isinstance(now, datetime)
    rows = await reading.execute(select(_c.name, _c.slot))
    return now, {row.name: row.slot for row in rows}


async def fire(tx: AsyncConnection, name: str, slot: datetime) -> bool:
    """Whether the slot is ours to fire: of all who try it is one, and never again for an earlier slot.

    Raises `DatabaseConflict` for all but one of those who are the first ever at the same moment.
    """
    moved = await tx.execute(update(schedule_fires).where(_c.name == name, _c.slot < slot).values(slot=slot))
    if moved.rowcount:
        return True
    if await tx.scalar(select(_c.name).where(_c.name == name)) is not None:
        return False
    await tx.execute(insert(schedule_fires).values(name=name, slot=slot))
    return True
