"""Maintenance of `batch_jobs`: deleting old jobs, measuring the queue, normalizing words that were mistyped by hand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
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
"""Maximum share of the time for measuring the queue."""


@dataclass(frozen=True, slots=True)
class JobCleaner:
    """The handler that deletes jobs which finished more than `keep_days` ago, with their attempts, chunk by chunk."""

    keep_days: int

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`. A repeated chunk finds fewer jobs to delete."""
        after: int | None = _number(job.cursor, "after")
        deleted = _number(job.cursor, "deleted")
        while after is not None:
            # Only the chunk finds its end, so the cursor is one chunk behind; repeating that chunk is cheap.
            async with job.step({"after": after, "deleted": deleted}, processed=deleted) as tx:
                pruned = await job_stats.prune(tx, after, self.keep_days * 86400, CHUNK_ROWS)
            deleted += pruned.deleted
            after = pruned.last
            await asyncio.sleep(CHUNK_PAUSE_SECONDS if after is not None else 0)
        return {"deleted": deleted}


def _number(cursor: Mapping[str, object] | None, name: str) -> int:
    value = (cursor or {}).get(name)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class QueueMonitor:
    """Measures the queue and normalizes invalid words. Runs in every process: no other may be running jobs."""

    database: Database
    metrics: JobMetrics
    logger: FilteringBoundLogger

    async def run(self) -> None:
        """Measure until cancelled."""
        await DutyCycle(MEASURE_SHARE).repeat(self.measure, MEASURE_INTERVAL)

    async def measure(self) -> None:
        """Measure and normalize once. If the database fails, the metrics have no values until the next time."""
        try:
            async with self.database.read_connection() as connection:
                self.metrics.set_depths(await job_stats.depths(connection))
                invalid = await job_stats.find_invalid(connection)
            self.metrics.set_invalid(invalid.unknown)
            await self._normalize(invalid)
        except SafeVideoError:
            self.metrics.set_depths(None)
            self.metrics.set_invalid(None)

    async def _normalize(self, invalid: InvalidValues) -> None:
        if invalid.statuses or invalid.priorities:
            async with self.database.transaction() as tx:
                await job_stats.normalize(tx, invalid)
            self.logger.warning(
                "Invalid job status or priority normalized",
                statuses=len(invalid.statuses),
                jobs=sorted(invalid.priorities),
            )
