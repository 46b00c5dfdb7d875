"""Periodic jobs: the table of them, and who queues them when it is time.

Every process looks. A slot fires in one transaction, which moves the entry's last slot forward and queues the job: so
it fires once, and what nobody was there for fires once when somebody is. The times are the database's.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from random import uniform
from typing import Final

from safevideo_common.database import jobs, schedule_fires
from safevideo_common.database.engine import Database
from safevideo_common.database.jobs import NewJob
from safevideo_common.domain.schedules import Daily, Every
from safevideo_common.errors import DatabaseConflict, SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.observability.logs import FilteringBoundLogger

LOOK_SECONDS: Final = 10.0
CREATED_BY: Final = "schedule"

SCHEDULE: Final[Sequence[Every]] = (Every("job-housekeeping", "job_housekeeping", Daily(time(3, 30))),)


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Run by one task in every process."""

    database: Database
    entries: Sequence[Every]
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
            await asyncio.sleep(uniform(LOOK_SECONDS / 2, LOOK_SECONDS))  # noqa: S311 - jitter guards nothing

    async def look(self) -> int:
        """Queue what is due; how many jobs. Raises the errors of the database."""
        async with self.database.reading() as reading:
            now, fired = await schedule_fires.last_fires(reading)
        due = [(entry, entry.when.slot_at(now)) for entry in self.entries]
        fires = [await self._fire(entry, slot) for entry, slot in due if _is_later(slot, fired.get(entry.name))]
        if any(fires):
            self.queued()
        return sum(fires)

    async def _fire(self, entry: Every, slot: datetime) -> bool:
        job = NewJob(
            entry.job_type,
            entry.parameters,
            entry.priority,
            unique_key=f"{entry.name}@{slot:%Y-%m-%dT%H:%M:%SZ}",
            created_by=CREATED_BY,
        )
        try:
            async with self.database.transaction() as tx:
                if not await schedule_fires.fire(tx, entry.name, slot):
                    return False
                await jobs.enqueue(tx, job)
        except DatabaseConflict:
            return False  # another is at it; if it fails, the next look finds the slot
        self.metrics.fired(entry.name)
        self.log.info("Schedule fired", name=entry.name, job_type=entry.job_type)
        return True


def _is_later(slot: datetime, fired: datetime | None) -> bool:
    return fired is None or slot > fired
