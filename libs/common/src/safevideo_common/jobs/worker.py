"""The engine: claims jobs as long as there is room for them, runs each as a task, and lets go in order."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import sample, uniform
from time import monotonic
from typing import Final, NamedTuple

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.jobs.completer import JobCompleter
from safevideo_common.jobs.executor import JobExecution, JobExecutor
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.leases import LeaseRenewer, Rescuer
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.store.attempts import Lease
from safevideo_common.jobs.store.queue import ClaimedJob, Claimer, DueJobs, within
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.resilience.duty_cycle import DutyCycle

# Claiming jobs from the queue for one process.


RESET_SHARE: Final = 0.05
"""Of the time, at most, for looking for jobs in backoff that were reset by hand."""
SPARE: Final = 100
"""When others had all that was found, so many more are looked at, and some of them picked: nobody stays behind a row
that somebody keeps locked."""


class FetchedJobs(NamedTuple):
    """What one claim has got."""

    jobs: Sequence[ClaimedJob]
    is_more: bool
    """Whether there may be more to take at once."""


class JobFetcher:
    """Used by one task at a time."""

    def __init__(
        self, database: Database, job_types: Iterable[str], service: str, worker: str, lease_seconds: float
    ) -> None:
        self._database: Final = database
        self._due: Final = DueJobs(sorted(job_types), service)
        self._claimer: Final = Claimer(worker, lease_seconds)
        self._pace: Final = DutyCycle(RESET_SHARE)
        self._spare = 0

    @property
    def is_crowded(self) -> bool:
        """Whether others had all that the last claim had found."""
        return self._spare > 0

    async def claim(self, limit: int, room: Mapping[str, int]) -> FetchedJobs:
        """Up to `limit` jobs, of a type in `room` no more than it says. Raises `ServiceUnavailable`."""
        found = await self._find(limit + self._spare, room)
        jobs = await self._take(sample(found, min(limit, len(found))) if self._spare else found[:limit])
        self._spare = SPARE if found and not jobs else 0
        return FetchedJobs(jobs, bool(jobs) and len(found) >= limit)

    async def _find(self, limit: int, room: Mapping[str, int]) -> list[int]:
        async with self._database.reading() as reading:
            found = await self._due.find(reading, limit, room)
            if len(found) < limit and self._pace.is_due():
                with self._pace.measured():
                    found += await self._due.find_reset(reading, room)
        return [each.job_id for each in within(room, found)[:limit]]

    async def _take(self, job_ids: Sequence[int]) -> list[ClaimedJob]:
        """Those that are ours now. Another worker who is at the same ones has them first."""
        if not job_ids:
            return []
        try:
            async with self._database.transaction() as tx:
                return await self._claimer.take(tx, job_ids)
        except DatabaseConflict:
            return []


# How much of the jobs a process takes on, and for how long.


MAX_CONCURRENT_STEPS: Final = 3
"""Transactions of handlers, of a pool of `POOL_SIZE`: the rest is for claims, endings and heartbeats."""
POOL_SIZE: Final = 7


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much, how long."""

    slots: int
    """Jobs in hand."""
    lease_seconds: float
    poll_seconds: float
    retry: Backoff
    at_once: Mapping[str, int] = field(default_factory=dict)
    """Of these types no more than so many are in hand."""

    @property
    def claim(self) -> int:
        """Jobs of one claim: half of the slots, so that others are claimed while these end."""
        return max(1, self.slots // 2)


# The jobs in hand: claimed, and not yet written as ended. Each is a task while its handler runs.


RELEASE_SECONDS: Final = 2.0


class RunningJobs:
    """Of one process. A job leaves once its ending is written, or its lease is lost."""

    def __init__(
        self, database: Database, bounds: WorkerLimits, trier: JobExecutor, wake: asyncio.Event, metrics: JobMetrics,
        log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`wake` is set when a job has left of whose type there is a bound: others may wait for that alone."""
        self.runs: Final[dict[Lease, JobExecution]] = {}
        self.endings: Final = JobCompleter(database, metrics, log, self._forget)
        self._database = database
        self._bounds = bounds
        self._trier = trier
        self._wake = wake
        self._metrics = metrics
        self._log = log
        self._steps = asyncio.Semaphore(MAX_CONCURRENT_STEPS)
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
            run = JobExecution(job, self._database, self._bounds.lease_seconds, self._steps)
            self.runs[job.lease] = run
            self._tasks[job.lease] = asyncio.create_task(self._try(run), name=f"job-{job.job_id}")
        self._metrics.claimed(job.job_type for job in jobs)
        self._tell_running()

    async def _try(self, run: JobExecution) -> None:
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
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.endings.flush()

    async def _stop_tasks(self, grace_seconds: float) -> None:
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=RELEASE_SECONDS)


SATURATED_POLL_SECONDS: Final = 0.02
OUTAGE: Final = Backoff(initial=0.25, maximum=5.0)


class JobWorker:
    """The jobs of one process. `run` is for one task; `drain` ends it."""

    def __init__(
        self, service: str, handlers: Mapping[str, JobHandler], database: Database, bounds: WorkerLimits,
        metrics: JobMetrics, log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`database` has a pool of its own, so that jobs and live events do not wait for each other's connections."""
        self.wake: Final = asyncio.Event()
        """Set when a job may have been queued."""
        worker = f"{service}-{secrets.token_hex(4)}"
        self._bounds = bounds
        self._log = log
        self._is_draining = False
        self._turns = asyncio.Lock()
        self._claiming = JobFetcher(database, handlers, service, worker, bounds.lease_seconds)
        self.in_hand: Final = RunningJobs(
            database, bounds, JobExecutor(handlers, bounds.retry, log), self.wake, metrics, log
        )
        self.endings: Final = self.in_hand.endings
        self.heartbeat: Final = LeaseRenewer(
            database, self.in_hand.runs, bounds.lease_seconds, self.in_hand.lose, metrics, log
        )
        self.rescue: Final = Rescuer(database, bounds.lease_seconds, bounds.retry, metrics, log)

    async def run(self) -> None:
        """Claim and run jobs until drained; cancelled, it leaves them to be rescued."""
        tries = 0
        while not self._is_draining:
            self.wake.clear()
            try:
                is_more = await self._turn()
            except ServiceUnavailable as error:
                is_more, tries = False, tries + 1
                if tries == 1:
                    self._log.warning("Job engine waits", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE.delay(tries))
            else:
                tries = 0
            if not is_more and not self._is_draining:
                await self._rest()
        await asyncio.Event().wait()  # a background task that returns has died

    async def _turn(self) -> bool:
        """Fill the room that there is; whether there may be more to take."""
        await self.in_hand.has_room()
        async with self._turns:
            return not self._is_draining and await self._fill()

    async def _fill(self) -> bool:
        limit = min(self.in_hand.free, self._bounds.claim)
        claimed = await self._claiming.claim(limit, self.in_hand.room_by_type())
        self.in_hand.start(claimed.jobs)
        return claimed.is_more

    async def _rest(self) -> None:
        seconds = SATURATED_POLL_SECONDS if self._claiming.is_crowded else self._bounds.poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter guards nothing
                await self.wake.wait()

    async def drain(self, grace_seconds: float) -> None:
        """Claim no more, let runs come to a checkpoint, and give the rest back to the queue as they last saved it."""
        self._is_draining = True
        self.wake.set()
        self.in_hand.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS), self._turns:
                pass  # what is just being claimed has been started
        await self.in_hand.drain(grace_seconds)
