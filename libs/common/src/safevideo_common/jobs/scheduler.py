"""Periodic jobs: their list, and the enqueuer.

Every process looks at the clock. One transaction advances the periodic job's last fire time and enqueues the job, so
each fire time enqueues one job. Of several missed fire times only the last one counts. A fire time is skipped while the
last job of that name waits or runs, so none pile up behind a closed gate. All times are the database's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import schedule_fires
from safevideo_common.errors import DatabaseConflict, SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import jittered

CHECK_INTERVAL: Final = 10.0
CREATED_BY: Final = "schedule"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """A slot every so long, counted from 1970."""

    every: timedelta | Callable[[], timedelta]
    """A function returns the time that holds now, if it may change."""

    def fire_time_at(self, now: datetime) -> datetime:
        """The last slot that is not after `now`."""
        every = self.every if isinstance(self.every, timedelta) else self.every()
        return now - (now - _EPOCH) % every


@dataclass(frozen=True, slots=True)
class Daily:
    """A slot a day, at a time in UTC."""

    at: time

    def fire_time_at(self, now: datetime) -> datetime:
        """Return the last slot that is not after `now`."""
        today = datetime.combine(now.astimezone(UTC), self.at, UTC)
        return today if today <= now else today - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """A job that is enqueued once at each fire time, by one of all processes, unless its last one is unfinished."""

    name: str
    """At most 64 characters; never reuse the name of a former periodic job."""
    job_type: str
    when: Interval | Daily
    parameters: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.LOW


PERIODIC_JOBS: Final[Sequence[PeriodicJob]] = (PeriodicJob("job-housekeeping", "job_housekeeping", Daily(time(3, 30))),)


@dataclass(frozen=True, slots=True)
class PeriodicJobEnqueuer:
    """Enqueues periodic jobs when they are due. Runs in every process."""

    database: Database
    periodic_jobs: Sequence[PeriodicJob]
    on_enqueued: Callable[[], None]
    """Called after the commit when a job was enqueued."""
    metrics: JobMetrics
    logger: FilteringBoundLogger

    async def run(self) -> None:
        """Check until cancelled. The next check repeats what fails."""
        while True:
            try:
                await self.run_once()
            except SafeVideoError as error:
                self.logger.warning("Periodic job check failed, retrying later", code=error.code, reason=error.message)
            await asyncio.sleep(jittered(CHECK_INTERVAL))

    async def run_once(self) -> int:
        """Enqueue all periodic jobs that are due, and return their number. Raises the errors of the database."""
        async with self.database.read_connection() as connection:
            now, last = await _last_fire_times(connection)
        enqueued = 0
        for job in self.periodic_jobs:
            fire_time = job.when.fire_time_at(now)
            if job.name not in last or last[job.name] < fire_time:
                enqueued += await self._enqueue(job, fire_time)
        if enqueued:
            self.on_enqueued()
        return enqueued

    async def _enqueue(self, periodic: PeriodicJob, fire_time: datetime) -> bool:
        job = NewJob(
            periodic.job_type,
            periodic.parameters,
            periodic.priority,
            unique_key=f"periodic:{periodic.name}",
            created_by=CREATED_BY,
        )
        try:
            async with self.database.transaction() as tx:
                if not await _advance(tx, periodic.name, fire_time):
                    return False
                enqueued = await job_admin.enqueue(tx, job)
        except DatabaseConflict:
            return False  # another process enqueues it; if that fails, the next check finds the fire time again
        if not enqueued.is_new:
            return False
        self.metrics.record_enqueued(periodic.name)
        self.logger.info("Periodic job enqueued", name=periodic.name, job_type=periodic.job_type)
        return True


_c: Final = schedule_fires.c


async def _last_fire_times(connection: AsyncConnection) -> tuple[datetime, dict[str, datetime]]:
    """Return the database's time, and the last fire time by name."""
    now = await connection.scalar(select(now_plus()))
    assert isinstance(now, datetime)
    rows = await connection.execute(select(_c.name, _c.slot))
    return now, {row.name: row.slot for row in rows}


async def _advance(tx: AsyncConnection, name: str, fire_time: datetime) -> bool:
    """Advance the last fire time. Return False if another process did it, or if it is later already.

    Raises `DatabaseConflict` if several processes insert the first fire time at once, for all but one of them.
    """
    moved = await tx.execute(update(schedule_fires).where(_c.name == name, _c.slot < fire_time).values(slot=fire_time))
    if moved.rowcount:
        return True
    if await tx.scalar(select(_c.name).where(_c.name == name)) is not None:
        return False
    await tx.execute(insert(schedule_fires).values(name=name, slot=fire_time))
    return True
