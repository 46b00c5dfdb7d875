"""An attempt of a job: its context, and the handler's outcome as a completion."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.errors import (
    BrokerUnavailable,
    CircuitBreakerOpen,
    DatabaseUnavailable,
    Deferral,
    FallbackActive,
    FilesUnavailable,
    SafeVideoError,
    ServiceUnavailable,
)
from safevideo_common.jobs.handler import (
    JobCancelled,
    JobHandler,
    JobShutdown,
    LeaseLost,
    PermanentJobError,
    RetryableJobError,
)
from safevideo_common.jobs.model import (
    AttemptOutcome,
    ClaimedJob,
    JobCompletion,
    JobProgress,
    error_text,
)
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.observability.logs import FilteringBoundLogger, log_fields
from safevideo_common.observability.tracing import Span, SpanKind, Tracer, use_span
from safevideo_common.resilience.backoff import Backoff, jittered

STOP_CHECK_SECONDS: Final = 1.0
"""Minimum time between two reads of the row by `raise_if_stopped`."""
DEFERRAL_SECONDS: Final = 5.0
"""A deferred job is due again so soon. While its dependency is unavailable, a gate keeps it from being claimed."""
OUTAGE_DELAY_STEP: Final = 5
"""After an outage the next attempt begins with at least the delay of the fifth attempt: an outage lasts for a while."""
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_INTERRUPTED: Final = error_text("INTERRUPTED", "its worker shut down")


class JobExecution:
    """An attempt of a job in this process; the `JobContext` of its handler."""

    def __init__(self, job: ClaimedJob, database: Database, lease_seconds: float, steps: asyncio.Semaphore) -> None:
        """`steps` bounds the concurrent transactions of all attempts of the process."""
        self.job: Final = job
        self.is_shutting_down = False
        self.is_lost = False
        self.is_cancelled = False
        self._database = database
        self._lease_seconds = lease_seconds
        self._steps = steps
        self._cursor = job.cursor
        self._claimed_cursor = _encode(job.cursor)
        self._checked_at = monotonic()

    @property
    def job_id(self) -> int:
        """See `JobContext`."""
        return self.job.job_id

    @property
    def job_type(self) -> str:
        """See `JobContext`."""
        return self.job.job_type

    @property
    def parameters(self) -> Mapping[str, object]:
        """See `JobContext`."""
        return self.job.parameters

    @property
    def cursor(self) -> Mapping[str, object] | None:
        """See `JobContext`."""
        return self._cursor

    @property
    def attempt(self) -> int:
        """See `JobContext`."""
        return self.job.attempt

    @property
    def request_id(self) -> str | None:
        """See `JobContext`."""
        return self.job.request_id

    @asynccontextmanager
    async def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """See `JobContext`. Locks the row first: a rescuer skips it until the step has ended."""
        self._raise_if_lost_or_cancelled()
        async with self._steps, self._database.transaction() as tx:
            await self.checkpoint(tx, cursor, processed=processed, total=total)
            yield tx
        self._checked_at = monotonic()
        if cursor is not None:
            self._cursor = cursor
        self._raise_if_stopped()

    async def checkpoint(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None:
        """See `JobContext`."""
        has_moved = cursor is not None and _encode(cursor) != self._claimed_cursor
        progress = JobProgress(cursor, processed, total, has_moved)
        self._update(await job_attempts.save_progress(tx, self.job.lease, self._lease_seconds, progress))
        self._raise_if_lost_or_cancelled()

    async def raise_if_stopped(self) -> None:
        """See `JobContext`."""
        if monotonic() - self._checked_at >= STOP_CHECK_SECONDS:
            self._checked_at = monotonic()
            with suppress(ServiceUnavailable):  # the lease renewer reports an outage and an expired lease
                async with self._database.read_connection() as connection:
                    self._update(await job_attempts.is_cancel_requested(connection, self.job.lease))
        self._raise_if_stopped()

    def _update(self, is_cancel_requested: bool | None) -> None:
        self.is_lost = self.is_lost or is_cancel_requested is None
        self.is_cancelled = self.is_cancelled or is_cancel_requested is True

    def _raise_if_lost_or_cancelled(self) -> None:
        if self.is_lost:
            raise LeaseLost
        if self.is_cancelled:
            raise JobCancelled

    def _raise_if_stopped(self) -> None:
        self._raise_if_lost_or_cancelled()
        if self.is_shutting_down:
            raise JobShutdown


@dataclass(frozen=True, slots=True)
class JobExecutor:
    """Runs handlers, and turns their results and errors into completions."""

    handlers: Mapping[str, JobHandler]
    retry: Backoff
    logger: FilteringBoundLogger
    tracer: Tracer | None = None

    async def execute(self, execution: JobExecution) -> JobCompletion | None:
        """Run the handler and return the completion; None if the lease is lost and nothing must be written.

        If this is cancelled, the attempt ends: with a lost lease, an interruption or a failure, as `execution` says.
        An attempt of a job that a sampled span enqueued is in that trace; else a sampled one begins its own. Its calls
        at Sharegram are below it. Each line that the handler logs names the
        job, the request that enqueued it, and its performer if it has one.
        """
        about = execution.job.log_fields
        with log_fields(**about):
            completion = await self._traced(execution)
        return None if completion is None else completion._replace(log_fields=about)

    async def _traced(self, execution: JobExecution) -> JobCompletion | None:
        span = self._span_of(execution)
        if span is None:
            return await self._execute(execution)
        with use_span(span):
            completion = await self._execute(execution)
        outcome = "lease_lost" if completion is None else completion.outcome.value
        span.end(
            {
                "safevideo.job.id": execution.job_id,
                "safevideo.job.outcome": outcome,
                "safevideo.request_id": execution.request_id or "",
            },
            "" if outcome == AttemptOutcome.COMPLETED.value else outcome,
        )
        return completion

    def _span_of(self, execution: JobExecution) -> Span | None:
        if self.tracer is None:
            return None
        name, cause = f"job {execution.job_type}", execution.job.traceparent
        follow, sample = self.tracer.follow, self.tracer.sample
        return follow(name, SpanKind.CONSUMER, cause) if cause else sample(name, SpanKind.CONSUMER)

    async def _execute(self, execution: JobExecution) -> JobCompletion | None:
        lease = execution.job.lease
        try:
            result = await self.handlers[execution.job_type].run(execution)
        except asyncio.CancelledError:
            return self._cancelled(execution)
        except LeaseLost:
            return None
        except JobCancelled:
            return JobCompletion(lease, AttemptOutcome.CANCELLED)
        except JobShutdown:
            return JobCompletion(lease, AttemptOutcome.INTERRUPTED, _INTERRUPTED)
        except PermanentJobError as error:
            return JobCompletion(lease, AttemptOutcome.FAILED, error_text(error.code, error.message))
        except (RetryableJobError, SafeVideoError) as error:
            return self._deferred_or_retried(execution, error)
        except Exception as error:
            self.logger.exception("Job handler failed")
            sentence = f"the handler raised {type(error).__name__}"
            return self._retry_later(execution, error_text("HANDLER_FAILED", sentence))
        return JobCompletion(lease, AttemptOutcome.COMPLETED, result=result)

    def _cancelled(self, execution: JobExecution) -> JobCompletion | None:
        if execution.is_lost:
            return None
        if execution.is_shutting_down:
            return JobCompletion(execution.job.lease, AttemptOutcome.INTERRUPTED, _INTERRUPTED)
        return self._retry_later(execution, error_text("HANDLER_FAILED", "the handler was cancelled"))

    def _deferred_or_retried(self, execution: JobExecution, error: RetryableJobError | SafeVideoError) -> JobCompletion:
        text = error_text(error.code, error.message)
        if not isinstance(error, Deferral):
            is_outage = isinstance(error, BrokerUnavailable | DatabaseUnavailable | FilesUnavailable)
            return self._retry_later(execution, text, is_outage=is_outage)
        is_gated = isinstance(error, CircuitBreakerOpen | FallbackActive)  # the job is woken when that ends
        seconds = DEFERRAL_SECONDS if is_gated or error.retry_after is None else float(error.retry_after)
        return JobCompletion(execution.job.lease, AttemptOutcome.DEFERRED, text, delay=jittered(seconds))

    def _retry_later(self, execution: JobExecution, error: str, *, is_outage: bool = False) -> JobCompletion:
        job = execution.job
        delay = self.retry.delay(max(job.attempt, OUTAGE_DELAY_STEP) if is_outage else job.attempt)
        return JobCompletion(job.lease, AttemptOutcome.RETRYABLE, error, delay=delay, is_outage=is_outage)
