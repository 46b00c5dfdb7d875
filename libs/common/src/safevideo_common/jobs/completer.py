"""Writing how attempts end: all completions that have gathered meanwhile go into one transaction."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import DataRejected
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import AttemptOutcome, CompletedJob, JobCompletion, Lease, error_text
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.resilience.outages import Outage
from safevideo_common.tasks import wait_event

MAX_COMPLETIONS_PER_WRITE: Final = 400
LOCKED_RETRY_SECONDS: Final = 0.5
"""Time between two attempts to complete a job whose row another transaction, such as an operator's, has locked."""
OUTAGE: Final = Backoff(initial=0.1, maximum=5.0)
_RESULT_REFUSED: Final = error_text("RESULT_REFUSED", "the database does not take the job's result")


class JobCompleter:
    """Writes completions in batches. The running jobs bound its queue."""

    def __init__(
        self,
        database: Database,
        metrics: JobMetrics,
        logger: FilteringBoundLogger,
        release: Callable[[Collection[Lease]], None],
    ) -> None:
        """`release` gets the leases that are finished: their completion is written, or they are lost."""
        self._database = database
        self._metrics = metrics
        self._logger = logger
        self._release = release
        self._waiting: list[JobCompletion] = []
        self._locked: list[JobCompletion] = []
        self._added = asyncio.Event()
        self._flushing = asyncio.Lock()

    def complete(self, completion: JobCompletion) -> None:
        """Queue a completion for the next write."""
        self._waiting.append(completion)
        self._added.set()

    async def run(self) -> None:
        """Write completions until cancelled. In a long database outage the leases expire; others rescue the jobs."""
        outage = Outage(
            self._logger,
            OUTAGE,
            began="Job completions not written, retrying",
            ended="Job completions written again",
        )
        while True:
            await wait_event(self._added, LOCKED_RETRY_SECONDS if self._locked else None)
            async with outage.attempt():
                await self.flush()

    async def flush(self) -> None:
        """Write the queued completions. Raises `ServiceUnavailable`; the rest stays queued."""
        async with self._flushing:
            self._waiting, self._locked = [*self._waiting, *self._locked], []
            while batch := self._waiting[:MAX_COMPLETIONS_PER_WRITE]:
                written, locked = await self._write(batch)
                self._waiting = self._waiting[len(batch) :]
                self._locked += locked
                self._report(batch, written, locked)
            self._added.clear()

    async def _write(self, batch: Sequence[JobCompletion]) -> tuple[list[CompletedJob], list[JobCompletion]]:
        """Write the batch together; if the database rejects a value, write each completion alone."""
        try:
            return await self._write_together(batch)
        except DataRejected:
            written: list[CompletedJob] = []
            locked: list[JobCompletion] = []
            for completion in batch:
                each_written, each_locked = await self._write_alone(completion)
                written += each_written
                locked += each_locked
            return written, locked

    async def _write_together(self, batch: Sequence[JobCompletion]) -> tuple[list[CompletedJob], list[JobCompletion]]:
        async with self._database.transaction() as tx:
            return await job_attempts.complete(tx, batch)

    async def _write_alone(self, completion: JobCompletion) -> tuple[list[CompletedJob], list[JobCompletion]]:
        try:
            return await self._write_together([completion])
        except DataRejected:
            failed = completion._replace(outcome=AttemptOutcome.FAILED, error=_RESULT_REFUSED, result=None)
            return await self._write_together([failed])

    def _report(
        self, batch: Sequence[JobCompletion], written: Sequence[CompletedJob], locked: Sequence[JobCompletion]
    ) -> None:
        self._metrics.record_completed(written)
        finished = {each.lease for each in batch} - {each.lease for each in locked}
        job_by_lease = {each.lease: each for each in written}
        for completion in batch:
            if job := job_by_lease.get(completion.lease):
                self._log_end(job, completion.error)
            elif completion.lease in finished:
                self._metrics.record_lease_lost()
                self._logger.warning("Job lease lost", code="LEASE_LOST", **completion.log_fields)
        self._release(finished)

    def _log_end(self, job: CompletedJob, error: str | None) -> None:
        fields = job.log_fields
        if job.outcome is AttemptOutcome.COMPLETED:
            self._logger.debug("Job completed", **fields)
            return
        code, _, reason = (error or job.outcome.upper()).partition(": ")
        levels = {AttemptOutcome.FAILED: self._logger.error, AttemptOutcome.RETRYABLE: self._logger.warning}
        levels.get(job.outcome, self._logger.info)(
            "Job attempt not completed", code=code, **fields, outcome=job.outcome, reason=reason
        )
