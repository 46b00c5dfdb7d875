"""Workers as processes of their own, of which any may be killed, frozen, stopped, and one more started."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_testkit.service_process import ServiceProcess

SERVICES = ("sync_worker", "kyc_worker")
SETTINGS = {
    "BATCH_RECORDS": "20",
    "RETRY_INITIAL_SECONDS": "0.25",
    "RETRY_MAX_SECONDS": "1",
    "RETRY_MAX_ATTEMPTS": "15",
    "RETRY_SCAN_SECONDS": "0.5",
}
"""Batches so small that workers are busy, and are cut off in the middle of some; and retries that come soon."""


class Fleet:
    """`members` are those that run, by service. One that ends by itself is in `fallen`, with what it said last."""

    def __init__(self, environment: Mapping[str, str], folder: Path, services: Sequence[str]) -> None:
        self.members: dict[str, list[ServiceProcess]] = {service: [] for service in services}
        self.fallen: list[str] = []
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
        """`kill -9`."""
        self.members[service].remove(worker)
        await worker.kill()

    async def stop(self, service: str, worker: ServiceProcess) -> None:
        """SIGTERM. Once it has started it must end well, whatever is away."""
        self.members[service].remove(worker)
        if (status := await worker.stop()) and _has_started(worker):
            self.fallen.append(f"{service}, told to stop, ended with {status}: {worker.output()[-2000:]}")

    async def tend(self) -> None:
        """As a supervisor does: start again what could not start, and one where there is none."""
        for service, workers in self.members.items():
            if not workers:
                await self.start(service)
            for worker in [each for each in workers if each.ended is not None]:
                workers.remove(worker)
                if _has_started(worker) or worker.ended != 1:
                    self.fallen.append(f"{service} ended by itself with {worker.ended}: {worker.output()[-2000:]}")
                await self.start(service)

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
    """`each` workers of each service. At the end all must stop well."""
    fleet = Fleet({**environment, **SETTINGS}, folder, services)
    try:
        for service in services:
            for _ in range(each):
                await fleet.start(service)
        yield fleet
    finally:
        fleet.thaw()
        await fleet.stop_all()


def _has_started(worker: ServiceProcess) -> bool:
    return "Service started" in worker.output()
