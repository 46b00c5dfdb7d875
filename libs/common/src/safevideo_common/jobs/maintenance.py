"""The job that keeps the table of jobs small, and the look at how long the queue is."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import uniform
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.store import stats as job_stats
from safevideo_common.jobs.store.stats import InvalidValues
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.duty_cycle import DutyCycle

JOB_HOUSEKEEPING: Final = "job_housekeeping"
CHUNK_ROWS: Final = 500
CHUNK_PAUSE_SECONDS: Final = 0.1
MEASURE_INTERVAL: Final = 10.0
MEASURE_SHARE: Final = 0.02
"""Of the time, at most, for counting what waits."""


@dataclass(frozen=True, slots=True)
class JobCleaner:
    """Deletes jobs that were finished longer ago than `keep_days`, with their tries, chunk by chunk."""

    keep_days: int

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`. What is deleted is gone, so a try that begins again finds less to do."""
        place: int | None = _number(job.cursor, "after")
        deleted = _number(job.cursor, "deleted")
        while place is not None:
            # The chunk says how far it came; a cursor that is one chunk behind costs one look at what is left of it.
            async with job.step({"after": place, "deleted": deleted}, processed=deleted) as tx:
                swept = await job_stats.prune(tx, place, self.keep_days * 86400, CHUNK_ROWS)
            deleted += swept.deleted
            place = swept.last
            await asyncio.sleep(CHUNK_PAUSE_SECONDS if place is not None else 0)
        return {"deleted": deleted}


def _number(cursor: Mapping[str, object] | None, name: str) -> int:
    value = (cursor or {}).get(name)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class QueueMonitor:
    """Measures what waits, and mends what was mistyped by hand.

    Run by one task in every process: nobody may be running any jobs at all.
    """

    database: Database
    metrics: JobMetrics
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled."""
        pace = DutyCycle(MEASURE_SHARE)
        while True:
            if pace.is_due():
                with pace.measured():
                    await self.look()
            await asyncio.sleep(uniform(MEASURE_INTERVAL / 2, MEASURE_INTERVAL))  # noqa: S311 - jitter guards nothing

    async def look(self) -> None:
        """Once. What fails is done at the next look."""
        try:
            async with self.database.reading() as reading:
                self.metrics.queue(await job_stats.depths(reading))
                found = await job_stats.find_invalid(reading)
            self.metrics.unknown(found.unknown)
            await self._mend(found)
        except SafeVideoError:
            self.metrics.queue(None)
            self.metrics.unknown(None)

    async def _mend(self, found: InvalidValues) -> None:
        if found.statuses or found.priorities:
            async with self.database.transaction() as tx:
                await job_stats.normalize(tx, found)
            self.log.warning("Job words mended", statuses=len(found.statuses), jobs=sorted(found.priorities))
