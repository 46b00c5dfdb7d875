"""Leases: renewing those of this process, and rescuing jobs whose lease has expired."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import CompletedJob
from safevideo_common.jobs.running_jobs import RunningJobs
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import MAX_RESCUED_PER_SCAN
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff, jittered

RENEWALS_PER_LEASE: Final = 3
LATE_SHARE: Final = 0.5
"""A renewal that is later than this share of the interval is reported."""
SCANS_PER_LEASE: Final = 2
_MAX_DELAYS: Final = 20
"""Rescued jobs with more attempts than this all have the last delay."""


@dataclass(frozen=True, slots=True)
class LeaseRenewer:
    """Renews the leases of all running jobs. If a renewal is too late, the database decides, and the attempts end."""

    database: Database
    running: RunningJobs
    lease_seconds: float
    metrics: JobMetrics
    logger: FilteringBoundLogger

    async def run(self) -> None:
        """Renew until cancelled. A lease survives two renewals in a row that fail."""
        interval = self.lease_seconds / RENEWALS_PER_LEASE
        due = monotonic() + interval
        while True:
            await asyncio.sleep(max(0.0, due - monotonic()))
            late = monotonic() - due
            try:
                async with asyncio.timeout(interval):
                    await self.renew()
            except (SafeVideoError, TimeoutError) as error:
                jobs = len(self.running.leases)
                self.logger.warning("Job heartbeat failed", reason=type(error).__name__, jobs=jobs)
            late = max(late, monotonic() - due)
            if late > interval * LATE_SHARE:
                self.metrics.record_late_renewal()
                self.logger.warning("Job heartbeat late", seconds=round(late, 3), jobs=len(self.running.leases))
            due = max(due + interval, monotonic())

    async def renew(self) -> None:
        """Renew all leases once. Raises the errors of the database."""
        if not (leases := set(self.running.leases)):
            return
        async with self.database.transaction() as tx:
            renewal = await job_attempts.renew(tx, leases, self.lease_seconds)
        self.running.apply(renewal)


@dataclass(frozen=True, slots=True)
class Rescuer:
    """Returns jobs of dead workers to the queue, in every process and for all types: a whole service may be dead."""

    database: Database
    lease_seconds: float
    retry: Backoff
    metrics: JobMetrics
    logger: FilteringBoundLogger

    async def run(self) -> None:
        """Rescue until cancelled. The next scan repeats what fails."""
        while True:
            try:
                while len(await self.rescue()) == MAX_RESCUED_PER_SCAN:
                    pass
            except SafeVideoError as error:
                self.logger.warning("Job rescue failed, retrying later", code=error.code, reason=error.message)
            await asyncio.sleep(jittered(self.lease_seconds / SCANS_PER_LEASE))

    async def rescue(self) -> list[CompletedJob]:
        """Rescue at most `MAX_RESCUED_PER_SCAN` jobs whose lease has expired. Raises the errors of the database."""
        delays = [self.retry.delay(attempts) for attempts in range(1, _MAX_DELAYS + 1)]
        async with self.database.transaction() as tx:
            rescued = await job_attempts.rescue(tx, delays)
        self.metrics.record_rescued(rescued)
        for job in rescued:
            self.logger.warning("Job rescued", **job.log_fields, status=job.status)
        return rescued
