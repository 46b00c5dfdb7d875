"""Writing how tries end: what has gathered meanwhile goes in one transaction."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import DataRejected, ServiceUnavailable
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import AttemptOutcome, error_text
from safevideo_common.jobs.store import attempts as job_attempts
from safevideo_common.jobs.store.attempts import CompletedJob, JobCompletion, Lease
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

MAX_COMPLETIONS_PER_WRITE: Final = 400
LOCKED_SECONDS: Final = 0.5
"""Between two looks whether a row is free again that somebody has locked, an operator say."""
OUTAGE: Final = Backoff(initial=0.1, maximum=5.0)
_REFUSED: Final = error_text("RESULT_REFUSED", "the database does not take the job's result")


@dataclass(slots=True)
class JobCompleter:
    """Run by one task. Its queue is bounded by the jobs in hand."""

    database: Database
    metrics: JobMetrics
    log: FilteringBoundLogger
    forget: Callable[[Iterable[Lease]], None]
    """Hears of leases that this process is done with: written, or lost."""
    _waiting: list[JobCompletion] = field(default_factory=list)
    _locked: list[JobCompletion] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, ending: JobCompletion) -> None:
        """To be written soon."""
        self._waiting.append(ending)
        self._came.set()

    async def run(self) -> None:
        """Until cancelled. While the database is away it waits, and after a lease's time others have the jobs."""
        tries = 0
        while True:
            await self._wait()
            try:
                await self.flush()
            except ServiceUnavailable as error:
                tries += 1
                if tries == 1:
                    self.log.warning("Job endings wait", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE.delay(tries))
            else:
                tries = 0

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOCKED_SECONDS if self._locked else None):
                await self._came.wait()

    async def flush(self) -> None:
        """Write what waits. Raises `ServiceUnavailable`; then it waits on."""
        async with self._turn:
            self._waiting, self._locked = [*self._waiting, *self._locked], []
            while batch := self._waiting[:MAX_COMPLETIONS_PER_WRITE]:
                await self._write(batch)
            self._came.clear()

    async def _write(self, batch: Sequence[JobCompletion]) -> None:
        try:
            ended, again = await self._end(batch)
        except DataRejected:
            ended, again = [], []
            for each in batch:
                some, rest = await self._end_alone(each)
                ended += some
                again += rest
        done = {each.lease for each in batch} - {each.lease for each in again}
        self._waiting = self._waiting[len(batch) :]
        self._locked += again
        self._report(batch, ended, done)

    async def _end(self, batch: Sequence[JobCompletion]) -> tuple[list[CompletedJob], list[JobCompletion]]:
        async with self.database.transaction() as tx:
            return await job_attempts.complete(tx, batch)

    async def _end_alone(self, ending: JobCompletion) -> tuple[list[CompletedJob], list[JobCompletion]]:
        try:
            return await self._end([ending])
        except DataRejected:
            return await self._end([ending._replace(outcome=AttemptOutcome.FAILED, error=_REFUSED, result=None)])

    def _report(self, batch: Sequence[JobCompletion], ended: Sequence[CompletedJob], done: set[Lease]) -> None:
        self.metrics.ended(ended)
        written = {each.lease: each for each in ended}
        for each in batch:
            if each.lease in written:
                self._tell(each, written[each.lease])
            elif each.lease in done:
                self.metrics.lease_lost()
                self.log.warning("Job lease lost", code="LEASE_LOST", job_id=each.lease.job_id)
        self.forget(done)

    def _tell(self, ending: JobCompletion, ended: CompletedJob) -> None:
        of = {"job_id": ended.lease.job_id, "job_type": ended.job_type}
        if ended.outcome is AttemptOutcome.COMPLETED:
            self.log.debug("Job completed", **of)
        else:
            self.log.warning("Job try ended", **of, outcome=ended.outcome, reason=ending.error)
