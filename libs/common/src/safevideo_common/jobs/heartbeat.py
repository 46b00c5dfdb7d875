"""Keeping the leases of all jobs in hand, and learning what was asked of them meanwhile."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from safevideo_common.database import job_leases
from safevideo_common.database.engine import Database
from safevideo_common.database.job_leases import Lease
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.run import Run
from safevideo_common.observability.logs import FilteringBoundLogger

BEATS_A_LEASE: Final = 3
LATE_SHARE: Final = 0.5
"""Of the time between two beats: what comes later than that is told."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Run by one task. Where it comes too late, the database has the last word, and the runs end."""

    database: Database
    runs: Mapping[Lease, Run]
    lease_seconds: float
    lose: Callable[[Lease], None]
    """Ends the run of a job whose lease is lost."""
    metrics: JobMetrics
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. A beat that fails is tried again at the next; a lease stands two that fail."""
        every = self.lease_seconds / BEATS_A_LEASE
        due = monotonic() + every
        while True:
            await asyncio.sleep(max(0.0, due - monotonic()))
            late = monotonic() - due
            await self._beat(every)
            late = max(late, monotonic() - due)
            if late > every * LATE_SHARE:
                self.metrics.beat_late()
                self.log.warning("Job heartbeat late", seconds=round(late, 3), jobs=len(self.runs))
            due = max(due + every, monotonic())

    async def _beat(self, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self.beat()
        except (SafeVideoError, TimeoutError) as error:
            self.log.warning("Job heartbeat failed", reason=type(error).__name__, jobs=len(self.runs))

    async def beat(self) -> None:
        """One beat for all jobs in hand. Raises the errors of the database."""
        if not (leases := set(self.runs)):
            return
        async with self.database.transaction() as tx:
            seen = await job_leases.beat(tx, leases, self.lease_seconds)
        for lease in seen.asked_to_stop & self.runs.keys():
            self.runs[lease].is_cancelled = True
        for lease in seen.lost & self.runs.keys():
            self.lose(lease)
