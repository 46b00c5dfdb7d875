"""The jobs that run in this process: each takes a slot from its claim until its completion is written."""

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from time import monotonic
from typing import Final

from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.jobs.completer import JobCompleter
from safevideo_common.jobs.executor import JobExecution, JobExecutor
from safevideo_common.jobs.handler import JobGate
from safevideo_common.jobs.metrics import JobMetrics
from safevideo_common.jobs.model import ClaimedJob, Lease
from safevideo_common.jobs.store.attempts import Renewal
from safevideo_common.observability.logs import FilteringBoundLogger

MAX_CONCURRENT_STEPS: Final = 3
"""Concurrent transactions of handlers. The other connections of the pool are for claims, completions and renewals."""
POOL_SIZE: Final = 7
RELEASE_SECONDS: Final = 2.0


class RunningJobs:
    """The slots of one process. A job frees its slot when its completion is written or its lease is lost."""

    def __init__(
        self, slots: int, concurrency_by_type: Mapping[str, int], lease_seconds: float, executor: JobExecutor,
        database: Database, wakeup: asyncio.Event, metrics: JobMetrics, logger: FilteringBoundLogger,
        gates: Mapping[str, JobGate],
    ) -> None:  # fmt: skip
        """`wakeup` is set when a job of a limited type has ended, because others may wait for that alone."""
        self.completer: Final = JobCompleter(database, metrics, logger, self._remove)
        self._slots = slots
        self._concurrency_by_type = concurrency_by_type
        self._gates = gates
        self._lease_seconds = lease_seconds
        self._executor = executor
        self._database = database
        self._wakeup = wakeup
        self._metrics = metrics
        self._logger = logger
        self._steps = asyncio.Semaphore(MAX_CONCURRENT_STEPS)
        self._limited_types = {*concurrency_by_type, *gates}
        self._executions: dict[Lease, JobExecution] = {}
        self._handlers: dict[Lease, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def leases(self) -> Set[Lease]:
        """The leases of all running jobs."""
        return self._executions.keys()

    @property
    def free_slots(self) -> int:
        """The number of jobs that can be started."""
        return self._slots - len(self._executions)

    def capacity_by_type(self) -> dict[str, int]:
        """Return how many more jobs can be started, of each type with a limit or a gate."""
        types = [execution.job_type for execution in self._executions.values()]
        limits = dict(self._concurrency_by_type)
        for name, gate in self._gates.items():
            if (limit := gate.capacity()) is not None:
                limits[name] = min(limit, limits.get(name, limit))
        return {name: max(0, limit - types.count(name)) for name, limit in limits.items()}

    async def has_capacity(self) -> None:
        """Return when a slot is free, or when this is closed."""
        while self.free_slots <= 0 and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()

    def start(self, jobs: Sequence[ClaimedJob]) -> None:
        """Run the handlers of claimed jobs."""
        for job in jobs:
            # A job that was reset by hand may return to the process that still runs it.
            for lease in [lease for lease in self._handlers if lease.job_id == job.job_id]:
                self.mark_lost(lease)
            execution = JobExecution(job, self._database, self._lease_seconds, self._steps)
            self._executions[job.lease] = execution
            self._handlers[job.lease] = asyncio.create_task(self._execute(execution), name=f"job-{job.job_id}")
        self._metrics.record_claimed(job.job_type for job in jobs)
        self._report()

    async def _execute(self, execution: JobExecution) -> None:
        lease, started = execution.job.lease, monotonic()
        try:
            completion = await self._executor.execute(execution)
        finally:
            self._metrics.record_duration(execution.job_type, monotonic() - started)
            self._handlers.pop(lease, None)
        if completion is not None:
            self.completer.complete(completion)
            return
        self._metrics.record_lease_lost()
        self._logger.warning("Job lease lost", code="LEASE_LOST", **execution.job.log_fields)
        self._remove([lease])

    def apply(self, renewal: Renewal) -> None:
        """Mark jobs that lost their lease or whose cancellation was requested."""
        for lease in renewal.cancelled_leases & self.leases:
            self._executions[lease].is_cancelled = True
        for lease in renewal.lost_leases & self.leases:
            self.mark_lost(lease)

    def mark_lost(self, lease: Lease) -> None:
        """End the attempt of a job whose lease is lost."""
        self._executions[lease].is_lost = True
        if task := self._handlers.get(lease):
            task.cancel()

    def _remove(self, leases: Collection[Lease]) -> None:
        for lease in leases:
            execution = self._executions.pop(lease, None)
            if execution is not None and execution.job_type in self._limited_types:
                self._wakeup.set()
        self._changed.set()
        self._report()

    def _report(self) -> None:
        self._metrics.set_running(execution.job_type for execution in self._executions.values())

    def close(self) -> None:
        """Let `has_capacity` return: no job is started any more."""
        self._is_closed = True
        self._changed.set()

    async def drain(self, grace_seconds: float) -> None:
        """Let attempts reach a checkpoint within the grace time, cancel the rest, and write all completions."""
        for execution in self._executions.values():
            execution.is_shutting_down = True
        await self._stop_handlers(grace_seconds)
        with suppress(ServiceUnavailable, TimeoutError):  # other workers rescue what is not written
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.completer.flush()

    async def _stop_handlers(self, grace_seconds: float) -> None:
        if not self._handlers:
            return
        _, late = await asyncio.wait(self._handlers.values(), timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=RELEASE_SECONDS)
