"""The jobs in hand: claimed, and not yet written as ended. Each is a task while its handler runs."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.database.job_claims import ClaimedJob
from safevideo_common.database.job_leases import Lease
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.bounds import STEPS_AT_ONCE, EngineBounds
from safevideo_common.jobs.ending import EndingWriter
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.run import Run
from safevideo_common.jobs.trying import Trier
from safevideo_common.observability.logs import FilteringBoundLogger

GIVE_BACK_SECONDS: Final = 2.0


class JobsInHand:
    """Of one process. A job leaves once its ending is written, or its lease is lost."""

    def __init__(
        self, database: Database, bounds: EngineBounds, trier: Trier, wake: asyncio.Event, metrics: JobMetrics,
        log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`wake` is set when a job has left of whose type there is a bound: others may wait for that alone."""
        self.runs: Final[dict[Lease, Run]] = {}
        self.endings: Final = EndingWriter(database, metrics, log, self._forget)
        self._database = database
        self._bounds = bounds
        self._trier = trier
        self._wake = wake
        self._metrics = metrics
        self._log = log
        self._steps = asyncio.Semaphore(STEPS_AT_ONCE)
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._is_closed = False

    @property
    def free(self) -> int:
        """Slots."""
        return self._bounds.slots - len(self.runs)

    def room_by_type(self) -> dict[str, int]:
        """How many more there may be, of each type that has a bound."""
        in_hand = [run.job_type for run in self.runs.values()]
        return {name: most - in_hand.count(name) for name, most in self._bounds.at_once.items()}

    async def has_room(self) -> None:
        """Return once a slot is free, or none is wanted any more."""
        while self.free <= 0 and not self._is_closed:
            self._room.clear()
            await self._room.wait()

    def start(self, jobs: Sequence[ClaimedJob]) -> None:
        """Run what was claimed."""
        for job in jobs:
            self._lose_former(job.job_id)
            run = Run(job, self._database, self._bounds.lease_seconds, self._steps)
            self.runs[job.lease] = run
            self._tasks[job.lease] = asyncio.create_task(self._try(run), name=f"job-{job.job_id}")
        self._metrics.claimed(job.job_type for job in jobs)
        self._tell_running()

    async def _try(self, run: Run) -> None:
        started = monotonic()
        try:
            ending = await self._trier.attempt(run)
        finally:
            self._metrics.ran(run.job_type, monotonic() - started)
            self._tasks.pop(run.job.lease, None)
        if ending is not None:
            self.endings.add(ending)
        else:
            self._metrics.lease_lost()
            self._log.warning("Job lease lost", code="LEASE_LOST", job_id=run.job_id, job_type=run.job_type)
            self._forget([run.job.lease])

    def _lose_former(self, job_id: int) -> None:
        """A job that was reset by hand may come back to the very process that still runs it."""
        for lease in [lease for lease in self._tasks if lease.job_id == job_id]:
            self.lose(lease)

    def lose(self, lease: Lease) -> None:
        """End a run whose lease is lost."""
        self.runs[lease].is_lost = True
        if task := self._tasks.get(lease):
            task.cancel()

    def _forget(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            run = self.runs.pop(lease, None)
            if run is not None and run.job_type in self._bounds.at_once:
                self._wake.set()
        self._room.set()
        self._tell_running()

    def _tell_running(self) -> None:
        self._metrics.running(run.job_type for run in self.runs.values())

    def close(self) -> None:
        """Nothing more is started: who waits for room waits no longer."""
        self._is_closed = True
        self._room.set()

    async def drain(self, grace_seconds: float) -> None:
        """Let runs come to a checkpoint, and give the rest back to the queue as they last saved it."""
        for run in self.runs.values():
            run.is_draining = True
        await self._stop_tasks(grace_seconds)
        with suppress(ServiceUnavailable, TimeoutError):  # or they are rescued when their leases end
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self.endings.flush()

    async def _stop_tasks(self, grace_seconds: float) -> None:
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=GIVE_BACK_SECONDS)
