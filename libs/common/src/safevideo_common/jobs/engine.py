"""The engine: claims jobs as long as there is room for them, runs each as a task, and lets go in order."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import sample, uniform
from time import monotonic
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.database.job_claims import ClaimedJob, Claimer
from safevideo_common.database.job_due import DueJobs, within
from safevideo_common.database.job_leases import Lease
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.jobs.ending import EndingWriter
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.heartbeat import Heartbeat
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.rescue import Rescue
from safevideo_common.jobs.run import Run
from safevideo_common.jobs.trying import Trier
from safevideo_common.messaging.consuming.pace import Pace
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

STEPS_AT_ONCE: Final = 3
"""Transactions of handlers, of a pool of `POOL_SIZE`: the rest is for claims, endings and heartbeats."""
POOL_SIZE: Final = 7
RESET_SHARE: Final = 0.05
"""Of the time, at most, for looking for jobs in backoff that were reset by hand."""
SPARE: Final = 100
"""When others had all that was found, so many more are looked at, and some of them picked: nobody stays behind a row
that somebody keeps locked."""
CROWDED_SECONDS: Final = 0.02
OUTAGE: Final = Backoff(initial=0.25, maximum=5.0)
GIVE_BACK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class EngineBounds:
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


class JobEngine:
    """The jobs of one process. `run` is for one task; `drain` ends it."""

    def __init__(
        self, service: str, handlers: Mapping[str, JobHandler], database: Database, bounds: EngineBounds,
        metrics: JobMetrics, log: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`database` has a pool of its own, so that jobs and live events do not wait for each other's connections."""
        self.wake: Final = asyncio.Event()
        """Set when a job may have been queued."""
        self.runs: Final[dict[Lease, Run]] = {}
        """The jobs in hand: claimed, and not yet written as ended."""
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._bounds = bounds
        self._database = database
        self._metrics = metrics
        self._log = log
        self._steps = asyncio.Semaphore(STEPS_AT_ONCE)
        self._room = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._is_draining = False
        self._pace = Pace(RESET_SHARE)
        self._spare = 0
        self._trier = Trier(handlers, bounds.retry, log)
        self.worker: Final = f"{service}-{secrets.token_hex(4)}"
        self._due = DueJobs(sorted(handlers), service)
        self._claimer = Claimer(self.worker, bounds.lease_seconds)
        self.endings: Final = EndingWriter(database, metrics, log, self._forget)
        self.heartbeat: Final = Heartbeat(database, self.runs, bounds.lease_seconds, self._lose, metrics, log)
        self.rescue: Final = Rescue(database, bounds.lease_seconds, bounds.retry, metrics, log)

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
        await self._has_room()
        async with self._claiming:
            return not self._is_draining and await self._fill()

    async def _fill(self) -> bool:
        free = min(self._bounds.slots - len(self.runs), self._bounds.claim)
        found = await self._find(free + self._spare)
        claimed = await self._take(found[:free] if not self._spare else sample(found, min(free, len(found))))
        self._spare = SPARE if found and not claimed else 0
        for job in claimed:
            self._start(job)
        self._metrics.claimed(job.job_type for job in claimed)
        self._tell_running()
        return bool(claimed) and len(found) >= free

    async def _has_room(self) -> None:
        while len(self.runs) >= self._bounds.slots and not self._is_draining:
            self._room.clear()
            await self._room.wait()

    async def _find(self, limit: int) -> list[int]:
        room = self._room_by_type()
        async with self._database.reading() as reading:
            found = await self._due.find(reading, limit, room)
            if len(found) < limit and self._pace.is_due():
                with self._pace.measured():
                    found += await self._due.find_reset(reading, room)
        return [each.job_id for each in within(room, found)[:limit]]

    def _room_by_type(self) -> dict[str, int]:
        in_hand = [run.job_type for run in self.runs.values()]
        return {name: most - in_hand.count(name) for name, most in self._bounds.at_once.items()}

    async def _take(self, job_ids: Sequence[int]) -> list[ClaimedJob]:
        """Those that are ours now. Another worker who is at the same ones has them first."""
        if not job_ids:
            return []
        try:
            async with self._database.transaction() as tx:
                return await self._claimer.take(tx, job_ids)
        except DatabaseConflict:
            return []

    def _start(self, job: ClaimedJob) -> None:
        run = Run(job, self._database, self._bounds.lease_seconds, self._steps)
        self._lose_former(job.job_id)
        self.runs[job.lease] = run
        self._tasks[job.lease] = asyncio.create_task(self._try(run), name=f"job-{job.job_id}")

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
            self._lose(lease)

    def _lose(self, lease: Lease) -> None:
        self.runs[lease].is_lost = True
        if task := self._tasks.get(lease):
            task.cancel()

    def _forget(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            run = self.runs.pop(lease, None)
            if run is not None and run.job_type in self._bounds.at_once:
                self.wake.set()  # others of its type may wait for it alone
        self._room.set()
        self._tell_running()

    def _tell_running(self) -> None:
        self._metrics.running(run.job_type for run in self.runs.values())

    async def _rest(self) -> None:
        seconds = CROWDED_SECONDS if self._spare else self._bounds.poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(uniform(seconds / 2, seconds)):  # noqa: S311 - jitter guards nothing
                await self.wake.wait()

    async def drain(self, grace_seconds: float) -> None:
        """Claim no more, let runs come to a checkpoint, and give the rest back to the queue as they last saved it."""
        self._is_draining = True
        self.wake.set()
        self._room.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_SECONDS), self._claiming:
                pass  # what is just being claimed has been started
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
