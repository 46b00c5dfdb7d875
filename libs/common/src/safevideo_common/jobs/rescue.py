"""Taking back the jobs of workers that died."""

import asyncio
from dataclasses import dataclass
from random import uniform
from typing import Final

from safevideo_common.database import job_endings
from safevideo_common.database.engine import Database
from safevideo_common.database.job_endings import RESCUED_AT_ONCE, Ended
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

LOOKS_A_LEASE: Final = 2
_TRIES_TOLD_APART: Final = 20


@dataclass(frozen=True, slots=True)
class Rescue:
    """Run by one task in every process, for jobs of all types: those whose only worker died too."""

    database: Database
    lease_seconds: float
    retry: Backoff
    metrics: JobMetrics
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. What fails is tried again at the next look."""
        while True:
            try:
                while len(await self.rescue()) == RESCUED_AT_ONCE:
                    pass
            except SafeVideoError as error:
                self.log.warning("Job rescue put off", code=error.code, reason=error.message)
            seconds = self.lease_seconds / LOOKS_A_LEASE
            await asyncio.sleep(uniform(seconds / 2, seconds))  # noqa: S311 - jitter guards nothing

    async def rescue(self) -> list[Ended]:
        """Those whose lease has run out, at most `RESCUED_AT_ONCE`. Raises the errors of the database."""
        delays = [self.retry.delay(tries) for tries in range(1, _TRIES_TOLD_APART + 1)]
        async with self.database.transaction() as tx:
            rescued = await job_endings.rescue(tx, delays)
        self.metrics.rescued(rescued)
        for each in rescued:
            self.log.warning("Job rescued", job_id=each.lease.job_id, job_type=each.job_type, status=each.status)
        return rescued
