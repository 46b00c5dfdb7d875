"""The job worker: wait for a free slot, fetch due jobs, run them; drain at shutdown."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import sample
from typing import Final, NamedTuple

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseConflict
from safevideo_common.jobs.executor import JobExecutor
from safevideo_common.jobs.handler import JobGate, JobHandler
from safevideo_common.jobs.leases import LeaseRenewer, Rescuer
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import ClaimedJob
from safevideo_common.jobs.running_jobs import RELEASE_SECONDS, RunningJobs
from safevideo_common.jobs.store.queue import Claimer, DueJobs, within_capacity
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import Tracer
from safevideo_common.resilience.backoff import Backoff, jittered
from safevideo_common.resilience.duty_cycle import DutyCycle
from safevideo_common.resilience.outages import Outage
from safevideo_common.tasks import task_group, wait_event

RESET_SHARE: Final = 0.05
"""Maximum share of the time for finding jobs in backoff that were reset by hand."""
EXTRA_CANDIDATES: Final = 100
"""If other workers claimed all jobs that were found, the next fetch finds this many more and picks at random. So no
worker is stuck behind rows that another transaction keeps locked."""
SATURATED_POLL_SECONDS: Final = 0.02
OUTAGE: Final = Backoff(initial=0.25, maximum=5.0)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The limits and times of a worker."""

    slots: int
    """Maximum number of running jobs."""
    lease_seconds: float
    poll_seconds: float
    retry: Backoff
    concurrency_by_type: Mapping[str, int] = field(default_factory=dict)
    """Maximum number of running jobs of these types."""
    gates: Mapping[str, JobGate] = field(default_factory=dict)
    """The dependency of these job types."""
    tracer: Tracer | None = None

    @property
    def fetch(self) -> int:
        """Maximum number of jobs of one fetch: half of the slots, so that fetching overlaps with completing."""
        return max(1, self.slots // 2)


class FetchedJobs(NamedTuple):
    """The result of one fetch."""

    jobs: Sequence[ClaimedJob]
    has_more: bool
    """True if another fetch may get jobs at once."""


class JobFetcher:
    """Finds and claims jobs. For one task."""

    def __init__(
        self, database: Database, job_types: Iterable[str], service: str, worker: str, lease_seconds: float
    ) -> None:
        self._database: Final = database
        self._due: Final = DueJobs(sorted(job_types), service)
        self._claimer: Final = Claimer(worker, lease_seconds)
        self._reset_scans: Final = DutyCycle(RESET_SHARE)
        self._extra = 0

    @property
    def is_saturated(self) -> bool:
        """True if other workers claimed all jobs that the last fetch had found."""
        return self._extra > 0

    async def fetch(self, limit: int, capacity: Mapping[str, int]) -> FetchedJobs:
        """Claim up to `limit` jobs, of a type in `capacity` at most that many. Raises `ServiceUnavailable`."""
        found = await self._find(limit + self._extra, capacity)
        jobs = await self._claim(sample(found, min(limit, len(found))) if self._extra else found[:limit])
        self._extra = EXTRA_CANDIDATES if found and not jobs else 0
        return FetchedJobs(jobs, bool(jobs) and len(found) >= limit)

    async def _find(self, limit: int, capacity: Mapping[str, int]) -> list[int]:
        async with self._database.read_connection() as connection:
            found = await self._due.find(connection, limit, capacity)
            if len(found) < limit and self._reset_scans.is_due():
                with self._reset_scans.measured():
                    found += await self._due.find_reset(connection, capacity)
        return [each.job_id for each in within_capacity(capacity, found)[:limit]]

    async def _claim(self, job_ids: Sequence[int]) -> list[ClaimedJob]:
        if not job_ids:
            return []
        try:
            async with self._database.transaction() as tx:
                return await self._claimer.claim(tx, job_ids)
        except DatabaseConflict:
            return []  # another worker claims the same jobs first


class JobWorker:
    """The jobs of one process: `run` fetches and runs them, `drain` ends them in order."""

    def __init__(
        self, service: str, handlers: Mapping[str, JobHandler], database: Database, limits: WorkerLimits,
        metrics: JobMetrics, logger: FilteringBoundLogger,
    ) -> None:  # fmt: skip
        """`database` has a pool of its own, so that jobs and live events do not wait for each other's connections."""
        self.wakeup: Final = asyncio.Event()
        """Set it when a job may have been queued."""
        self._limits = limits
        self._logger = logger
        self._is_draining = False
        self._fetching = asyncio.Lock()
        lease_seconds = limits.lease_seconds
        worker = f"{service}-{secrets.token_hex(4)}"
        self._fetcher = JobFetcher(database, handlers, service, worker, lease_seconds)
        executor = JobExecutor(handlers, limits.retry, logger, limits.tracer)
        self._running = RunningJobs(
            limits.slots, limits.concurrency_by_type, lease_seconds, executor, database, self.wakeup, metrics, logger,
            limits.gates,
        )  # fmt: skip
        for gate in limits.gates.values():
            gate.changed.append(self.wakeup.set)
        self._renewer = LeaseRenewer(database, self._running, lease_seconds, metrics, logger)
        self._rescuer = Rescuer(database, lease_seconds, limits.retry, metrics, logger)

    @property
    def is_idle(self) -> bool:
        """True if all slots are free."""
        return self._running.free_slots == self._limits.slots

    async def run(self) -> None:
        """Fetch, run, complete and rescue jobs until cancelled, also while `drain` is under way.

        Cancelled without `drain`, it leaves its jobs to be rescued.
        """
        async with task_group() as tasks:
            tasks.create_task(self._fetch_until_drained(), name="job-fetcher")
            tasks.create_task(self._running.completer.run(), name="job-completer")
            tasks.create_task(self._renewer.run(), name="job-lease-renewer")
            tasks.create_task(self._rescuer.run(), name="job-rescuer")

    async def _fetch_until_drained(self) -> None:
        outage = Outage(self._logger, OUTAGE, began="Job fetch failed, retrying", ended="Job fetch works again")
        while not self._is_draining:
            self.wakeup.clear()
            has_more = False
            async with outage.attempt():
                has_more = await self._fill_slots()
            if not has_more and not self._is_draining:
                is_saturated = self._fetcher.is_saturated
                await wait_event(
                    self.wakeup, jittered(SATURATED_POLL_SECONDS if is_saturated else self._limits.poll_seconds)
                )

    async def _fill_slots(self) -> bool:
        """Wait for a free slot, and run what a fetch gets. Return True if there may be more."""
        await self._running.has_capacity()
        async with self._fetching:
            if self._is_draining:
                return False
            limit = min(self._running.free_slots, self._limits.fetch)
            fetched = await self._fetcher.fetch(limit, self._running.capacity_by_type())
            self._running.start(fetched.jobs)
            return fetched.has_more

    async def drain(self, grace_seconds: float) -> None:
        """Fetch no more, let attempts reach a checkpoint, and return the rest to the queue as they were last saved."""
        self._is_draining = True
        self.wakeup.set()
        self._running.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS), self._fetching:
                pass  # a fetch that was under way has started its jobs
        await self._running.drain(grace_seconds)
