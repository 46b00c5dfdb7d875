"""One try: the handler runs, and what it returns or raises becomes an ending."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from safevideo_common.database.job_endings import Ending
from safevideo_common.domain.jobs import TryOutcome, error_text, is_spent
from safevideo_common.errors import SafeVideoError
from safevideo_common.jobs.handler import (
    JobCancelled,
    JobDrained,
    JobHandler,
    LeaseLost,
    PermanentJobError,
    TemporaryJobError,
)
from safevideo_common.jobs.run import Run
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

DRAINED = error_text("DRAINED", "its worker was told to stop")


@dataclass(frozen=True, slots=True)
class Trier:
    """Knows the handlers, and how long to wait after a failure."""

    handlers: Mapping[str, JobHandler]
    retry: Backoff
    log: FilteringBoundLogger

    async def attempt(self, run: Run) -> Ending | None:
        """How the try has ended; None when its lease is lost, and there is nothing to write.

        Cancelling it ends the try: as lost or drained, whichever the run says.
        """
        try:
            result = await self.handlers[run.job_type].run(run)
        except asyncio.CancelledError:
            return self._cut_off(run)
        except (LeaseLost, JobCancelled, JobDrained) as stopped:
            return self._stopped(run, stopped)
        except PermanentJobError as error:
            return self._ending(run, TryOutcome.FAILED, error_text(error.code, error.message))
        except (TemporaryJobError, SafeVideoError) as error:
            return self._put_off(run, error_text(error.code, error.message))
        except Exception as error:
            self.log.exception("Job handler failed", job_id=run.job_id, job_type=run.job_type)
            return self._put_off(run, error_text("HANDLER_FAILED", f"the handler raised {type(error).__name__}"))
        return self._ending(run, TryOutcome.COMPLETED)._replace(result=result)

    def _stopped(self, run: Run, stopped: LeaseLost | JobCancelled | JobDrained) -> Ending | None:
        if isinstance(stopped, LeaseLost):
            return None
        if isinstance(stopped, JobCancelled):
            return self._ending(run, TryOutcome.CANCELLED)
        return self._ending(run, TryOutcome.DRAINED, DRAINED)

    def _cut_off(self, run: Run) -> Ending | None:
        if run.is_lost:
            return None
        if run.is_draining:
            return self._ending(run, TryOutcome.DRAINED, DRAINED)
        return self._put_off(run, error_text("HANDLER_FAILED", "the handler was cancelled"))

    def _put_off(self, run: Run, error: str) -> Ending:
        if is_spent(run.tries, run.job.max_tries):
            return self._ending(run, TryOutcome.FAILED, error)
        return self._ending(run, TryOutcome.PUT_OFF, error)._replace(delay=self.retry.delay(run.tries))

    @staticmethod
    def _ending(run: Run, outcome: TryOutcome, error: str | None = None) -> Ending:
        return Ending(run.job.lease, outcome, error)
