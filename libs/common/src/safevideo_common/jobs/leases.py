"""Keeping the leases of all jobs in hand, and learning what was asked of them meanwhile."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import uniform
from time import monotonic
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.executor import JobExecution
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import MAX_RESCUED_PER_SCAN, CompletedJob, Lease
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

RENEWALS_PER_LEASE: Final = 3
LATE_SHARE: Final = 0.5
"""Of the time between two beats: what comes later than that is told."""


@dataclass(frozen=True, slots=True)
class LeaseRenewer:
    """Run by one task. Where it comes too late, the database has the last word, and the runs end."""

    database: Database
    runs: Mapping[Lease, JobExecution]
    lease_seconds: float
    lose: Callable[[Lease], None]
    """Ends the run of a job whose lease is lost."""
    metrics: JobMetrics
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. A beat that fails is tried again at the next; a lease stands two that fail."""
        every = self.lease_seconds / RENEWALS_PER_LEASE
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
            seen = await job_attempts.renew(tx, leases, self.lease_seconds)
        for lease in seen.asked_to_stop & self.runs.keys():
            self.runs[lease].is_cancelled = True
        for lease in seen.lost & self.runs.keys():
            self.lose(lease)


# Taking back the jobs of workers that died.


SCANS_PER_LEASE: Final = 2
_TRIES_TOLD_APART: Final = 20


@dataclass(frozen=True, slots=True)
class Rescuer:
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
                while len(await self.rescue()) == MAX_RESCUED_PER_SCAN:
                    pass
            except SafeVideoError as error:
                self.log.warning("Job rescue put off", code=error.code, reason=error.message)
            seconds = self.lease_seconds / SCANS_PER_LEASE
            await asyncio.sleep(uniform(seconds / 2, seconds))  # noqa: S311 - jitter guards nothing

    async def rescue(self) -> list[CompletedJob]:
        """Those whose lease has run out, at most `MAX_RESCUED_PER_SCAN`. Raises the errors of the database."""
        delays = [self.retry.delay(tries) for tries in range(1, _TRIES_TOLD_APART + 1)]
        async with self.database.transaction() as tx:
            rescued = await job_attempts.rescue(tx, delays)
        self.metrics.rescued(rescued)
        for each in rescued:
            self.log.warning("Job rescued", job_id=each.lease.job_id, job_type=each.job_type, status=each.status)
        return rescued
