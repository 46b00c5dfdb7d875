"""One try of a job, under its lease."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError, ServiceUnavailable
from safevideo_common.jobs.handler import (
    JobCancelled,
    JobHandler,
    JobShutdown,
    LeaseLost,
    PermanentJobError,
    RetryableJobError,
)
from safevideo_common.jobs.model import AttemptOutcome, attempts_exhausted, error_text
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import JobCompletion, JobProgress
from safevideo_common.jobs.store.queue import ClaimedJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

CHECK_SECONDS: Final = 1.0
"""Between two looks at the row, however often a handler asks."""


class JobExecution:
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
            by = JobProgress(cursor, processed, total)
            self._learn(await job_attempts.advance(tx, self.job.lease, self._lease_seconds, by))
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
        by = JobProgress(cursor, processed, total)
        self._learn(await job_attempts.advance(tx, self.job.lease, self._lease_seconds, by))
        self._raise_what_is_known(draining=False)

    async def check(self) -> None:
        """See `JobRun`."""
        if monotonic() - self._looked >= CHECK_SECONDS:
            self._looked = monotonic()
            with suppress(ServiceUnavailable):  # the heartbeat tells of an outage, and a lease that is over is noticed
                async with self._database.reading() as reading:
                    self._learn(await job_attempts.is_cancelled(reading, self.job.lease))
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
            raise JobShutdown


# One try: the handler runs, and what it returns or raises becomes an ending.


INTERRUPTED = error_text("INTERRUPTED", "its worker was told to stop")


@dataclass(frozen=True, slots=True)
class JobExecutor:
    """Knows the handlers, and how long to wait after a failure."""

    handlers: Mapping[str, JobHandler]
    retry: Backoff
    log: FilteringBoundLogger

    async def attempt(self, run: JobExecution) -> JobCompletion | None:
        """How the try has ended; None when its lease is lost, and there is nothing to write.

        Cancelling it ends the try: as lost or drained, whichever the run says.
        """
        try:
            result = await self.handlers[run.job_type].run(run)
        except asyncio.CancelledError:
            return self._cut_off(run)
        except (LeaseLost, JobCancelled, JobShutdown) as stopped:
            return self._stopped(run, stopped)
        except PermanentJobError as error:
            return self._ending(run, AttemptOutcome.FAILED, error_text(error.code, error.message))
        except (RetryableJobError, SafeVideoError) as error:
            return self._put_off(run, error_text(error.code, error.message))
        except Exception as error:
            self.log.exception("Job handler failed", job_id=run.job_id, job_type=run.job_type)
            return self._put_off(run, error_text("HANDLER_FAILED", f"the handler raised {type(error).__name__}"))
        return self._ending(run, AttemptOutcome.COMPLETED)._replace(result=result)

    def _stopped(self, run: JobExecution, stopped: LeaseLost | JobCancelled | JobShutdown) -> JobCompletion | None:
        if isinstance(stopped, LeaseLost):
            return None
        if isinstance(stopped, JobCancelled):
            return self._ending(run, AttemptOutcome.CANCELLED)
        return self._ending(run, AttemptOutcome.DRAINED, INTERRUPTED)

    def _cut_off(self, run: JobExecution) -> JobCompletion | None:
        if run.is_lost:
            return None
        if run.is_draining:
            return self._ending(run, AttemptOutcome.DRAINED, INTERRUPTED)
        return self._put_off(run, error_text("HANDLER_FAILED", "the handler was cancelled"))

    def _put_off(self, run: JobExecution, error: str) -> JobCompletion:
        if attempts_exhausted(run.tries, run.job.max_tries):
            return self._ending(run, AttemptOutcome.FAILED, error)
        return self._ending(run, AttemptOutcome.PUT_OFF, error)._replace(delay=self.retry.delay(run.tries))

    @staticmethod
    def _ending(run: JobExecution, outcome: AttemptOutcome, error: str | None = None) -> JobCompletion:
        return JobCompletion(run.job.lease, outcome, error)
