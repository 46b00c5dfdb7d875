"""One try of a job, under its lease."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import job_leases
from safevideo_common.database.engine import Database
from safevideo_common.database.job_claims import ClaimedJob
from safevideo_common.database.job_leases import Advance
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.handler import JobCancelled, JobDrained, LeaseLost

CHECK_SECONDS: Final = 1.0
"""Between two looks at the row, however often a handler asks."""


class Run:
    """The `JobRun` of the engine."""

    def __init__(self, job: ClaimedJob, database: Database, lease_seconds: float, steps: asyncio.Semaphore) -> None:
        """`steps` bounds the transactions of all runs of the process."""
        self.job: Final = job
        self.is_draining = False
        self.is_lost = False
        self.is_cancelled = False
        self._database = database
        self._lease_seconds = lease_seconds
        self._steps = steps
        self._cursor = job.cursor
        self._looked = monotonic()

    @property
    def job_id(self) -> int:
        """See `JobRun`."""
        return self.job.job_id

    @property
    def job_type(self) -> str:
        """See `JobRun`."""
        return self.job.job_type

    @property
    def parameters(self) -> Mapping[str, object]:
        """See `JobRun`."""
        return self.job.parameters

    @property
    def cursor(self) -> Mapping[str, object] | None:
        """See `JobRun`."""
        return self._cursor

    @property
    def tries(self) -> int:
        """See `JobRun`."""
        return self.job.tries

    @property
    def request_id(self) -> str | None:
        """See `JobRun`."""
        return self.job.request_id

    @asynccontextmanager
    async def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """See `JobRun`. The row is locked first: who takes the job back waits, or finds that the lease goes on."""
        self._raise_what_is_known(draining=False)
        async with self._steps, self._database.transaction() as tx:
            by = Advance(cursor, processed, total)
            self._learn(await job_leases.advance(tx, self.job.lease, self._lease_seconds, by))
            self._raise_what_is_known(draining=False)
            yield tx
        self._looked = monotonic()
        if cursor is not None:
            self._cursor = cursor
        self._raise_what_is_known()

    async def seal(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None:
        """See `JobRun`."""
        by = Advance(cursor, processed, total)
        self._learn(await job_leases.advance(tx, self.job.lease, self._lease_seconds, by))
        self._raise_what_is_known(draining=False)

    async def check(self) -> None:
        """See `JobRun`."""
        if monotonic() - self._looked >= CHECK_SECONDS:
            self._looked = monotonic()
            with suppress(ServiceUnavailable):  # the heartbeat tells of an outage, and a lease that is over is noticed
                async with self._database.reading() as reading:
                    self._learn(await job_leases.is_cancelled(reading, self.job.lease))
        self._raise_what_is_known()

    def _learn(self, is_cancelled: bool | None) -> None:
        self.is_lost = self.is_lost or is_cancelled is None
        self.is_cancelled = self.is_cancelled or is_cancelled is True

    def _raise_what_is_known(self, *, draining: bool = True) -> None:
        if self.is_lost:
            raise LeaseLost
        if self.is_cancelled:
            raise JobCancelled
        if self.is_draining and draining:
            raise JobDrained
