"""A supervisor of processes: it starts again whatever dies."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safevideo_common.resilience.backoff import Backoff
from safevideo_devstack.backends import Server, process, wait_ready
from safevideo_devstack.backends.process import Process
from safevideo_devstack.backends.servers import output_of
from safevideo_devstack.backends.stack import Say
from safevideo_devstack.run.state_files import PidRegistry

RESTART: Final = Backoff(initial=0.5, maximum=15.0)
STEADY_SECONDS: Final = 30.0
"""A process that ran this long has recovered: its next death counts as the first."""

POLL_SECONDS: Final = 0.2
SERVICE_GRACE_SECONDS: Final = 3.0
BACKEND_GRACE_SECONDS: Final = 5.0
"""Kafka takes some seconds to close its log in order. Together they stay below `signals.STOP_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run. Its output is appended to `output`; `environment` is added to ours and never printed."""

    name: str
    command: tuple[str, ...]
    output: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Supervisor:
    """The one owner of restarts. Its programs die with the process."""

    def __init__(self, pids: PidRegistry, say: Say) -> None:
        self._pids = pids
        self._say = say
        self._running: dict[str, Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done, with the error, when the supervision itself has failed."""

    def start(self, program: Program) -> None:
        """Start `program`, and again whenever it ends, until `stop`."""
        self._spawn(program)
        watcher = asyncio.create_task(self._watch(program), name=f"watch-{program.name}")
        watcher.add_done_callback(self._report_failure)
        self._watchers[program.name] = watcher

    async def start_server(self, server: Server) -> None:
        """Prepare a backend, start it, and return when it answers. Raises `BackendFailed`."""
        await asyncio.to_thread(server.prepare)
        self.start(Program(server.name, tuple(server.command()), output_of(server)))
        await asyncio.to_thread(wait_ready, server, lambda: self.is_running(server.name))

    def is_running(self, name: str) -> bool:
        """Return whether the program of that name runs now."""
        return name in self._running and process.is_running(self._running[name])

    async def stop(self, names: Collection[str], grace_seconds: float = SERVICE_GRACE_SECONDS) -> None:
        """Stop these programs side by side, for good: SIGTERM, and SIGKILL after `grace_seconds`."""
        watchers = [self._watchers.pop(name) for name in names if name in self._watchers]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        stopping = [self._running.pop(name) for name in names if name in self._running]
        await asyncio.to_thread(process.stop, stopping, grace_seconds)
        for stopped in stopping:
            self._pids.remove(stopped.name)

    async def stop_all(self) -> None:
        """Stop all programs that still run, with the grace that a backend needs."""
        await self.stop(list(self._running), BACKEND_GRACE_SECONDS)

    async def _watch(self, program: Program) -> None:
        deaths = 0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            while self.is_running(program.name):  # noqa: ASYNC110 - another process ends, which wakes nobody here
                await asyncio.sleep(POLL_SECONDS)
            self._pids.remove(program.name)
            deaths = 1 if clock() - began > STEADY_SECONDS else deaths + 1
            delay = RESTART.delay(deaths)
            self._say(f"{program.name} has ended; it is started again in {delay:.1f} s. Its output: {program.output}")
            await asyncio.sleep(delay)
            self._spawn(program)

    def _spawn(self, program: Program) -> None:
        started = process.spawn(
            program.name, program.command, program.output, die_with_parent=True, environment=program.environment
        )
        self._running[program.name] = started
        self._pids.add(started)

    def _report_failure(self, watcher: "asyncio.Task[None]") -> None:
        if not watcher.cancelled() and not self.failed.done() and (error := watcher.exception()):
            self.failed.set_exception(error)


@asynccontextmanager
async def open_supervisor(pids: PidRegistry, say: Say) -> AsyncIterator[Supervisor]:
    """Open a supervisor whose programs end with the block."""
    supervisor = Supervisor(pids, say)
    try:
        yield supervisor
    finally:
        await supervisor.stop_all()
        supervisor.failed.cancel()
