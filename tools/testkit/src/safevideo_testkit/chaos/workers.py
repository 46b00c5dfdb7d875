"""Worker processes that a test kills, freezes, stops and starts."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from safevideo_testkit.service_process import ServiceProcess

SERVICES = ("sync_worker", "kyc_worker")
SETTINGS = {
    "BATCH_RECORDS": "20",
    "RETRY_INITIAL_SECONDS": "0.25",
    "RETRY_MAX_SECONDS": "1",
    "RETRY_MAX_ATTEMPTS": "15",
    "RETRY_SCAN_SECONDS": "0.5",
    "DLQ_RATE_MINIMUM": "10000",
    "JOB_LEASE_SECONDS": "5",
    "JOB_RETRY_INITIAL_SECONDS": "0.5",
    "JOB_RETRY_MAX_SECONDS": "2",
}
"""Small batches, so that faults interrupt some of them, early retries, and as many redriven events as one likes. The
environment of a fleet may change them."""


ANSWER_SECONDS = 60.0
_STARTED = re.compile(r'"Service started","port":(\d+)')


class Fleet:
    """The running workers by service, in `members`, and in `failures` those that ended unexpectedly."""

    def __init__(self, environment: Mapping[str, str], folder: Path, services: Sequence[str]) -> None:
        self.members: dict[str, list[ServiceProcess]] = {service: [] for service in services}
        self.failures: list[str] = []
        self._environment = environment
        self._folder = folder
        self._started = 0

    async def start(self, service: str) -> ServiceProcess:
        self._started += 1
        worker = ServiceProcess(service, self._environment, self._folder / f"{service}-{self._started}.out")
        await worker.start()
        self.members[service].append(worker)
        return worker

    async def kill(self, service: str, worker: ServiceProcess) -> None:
        """Send SIGKILL."""
        self.members[service].remove(worker)
        await worker.kill()

    async def stop(self, service: str, worker: ServiceProcess) -> None:
        """Send SIGTERM. A worker that has started must exit with 0, even if a backend is unavailable."""
        self.members[service].remove(worker)
        if (status := await worker.stop()) and _has_started(worker):
            self.failures.append(f"{service} ended with {status} after SIGTERM: {worker.output()[-2000:]}")

    async def restart_ended(self) -> None:
        """Start a worker for each that failed to start, and one for a service without workers."""
        for service, workers in self.members.items():
            if not workers:
                await self.start(service)
            for worker in [each for each in workers if each.ended is not None]:
                workers.remove(worker)
                if _has_started(worker) or worker.ended != 1:
                    self.failures.append(f"{service} ended by itself with {worker.ended}: {worker.output()[-2000:]}")
                await self.start(service)

    async def unhealthy(self) -> list[str]:
        """Return the workers whose `/healthz` is red, with the answer. A worker that is still starting is none."""
        found: list[str] = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
            for service, workers in self.members.items():
                for port in filter(None, map(_port, workers)):
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                        found += [] if answer.status == 200 else [f"{service} is unhealthy: {await answer.text()}"]
        return found

    def thaw(self) -> None:
        for workers in self.members.values():
            for worker in workers:
                worker.thaw()

    async def stop_all(self) -> None:
        for service, workers in self.members.items():
            for worker in list(workers):
                await self.stop(service, worker)


@asynccontextmanager
async def running_fleet(
    environment: Mapping[str, str], folder: Path, each: int, services: Sequence[str] = SERVICES
) -> AsyncIterator[Fleet]:
    """Run `each` workers of each service, and stop them at the end."""
    fleet = Fleet({**SETTINGS, **environment}, folder, services)
    try:
        for service in services:
            for _ in range(each):
                await fleet.start(service)
        yield fleet
    finally:
        fleet.thaw()
        await fleet.stop_all()


def _port(worker: ServiceProcess) -> int | None:
    started = _STARTED.search(worker.output())
    return int(started[1]) if started and worker.ended is None else None


def _has_started(worker: ServiceProcess) -> bool:
    return "Service started" in worker.output()
