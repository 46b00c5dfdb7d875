"""Keeps processes running: what dies is started again, whoever it is."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safevideo_common.resilience.backoff import Backoff
from safevideo_devstack.backends import Server, process, wait_ready
from safevideo_devstack.backends.process import Process
from safevideo_devstack.backends.stack import Say
from safevideo_devstack.backends.starting import log_of
from safevideo_devstack.run.state_files import PidRegistry

RESTART: Final = Backoff(initial=0.5, maximum=15.0)
STEADY_SECONDS: Final = 30.0
"""A process that lasted this long has recovered: its next death counts as the first."""

POLL_SECONDS: Final = 0.2
SERVICE_GRACE_SECONDS: Final = 3.0
BACKEND_GRACE_SECONDS: Final = 5.0
"""Kafka takes some seconds to close its log in order. Together they stay below `stopping.STOP_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. Its output goes to the end of `output`; `environment` is added to ours, in no one's sight."""

    name: str
    command: tuple[str, ...]
    output: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Supervisor:
    """The one owner of restarts. Use it from the main thread: what it starts is tethered to that."""

    def __init__(self, roster: PidRegistry, say: Say) -> None:
        self._roster = roster
        self._say = say
        self._running: dict[str, Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done, with the error, when supervising itself has failed."""

    def keep(self, program: Program) -> None:
        """Start `program`, and again whenever it ends, until `stop`."""
        self._start(program)
        keeper = asyncio.create_task(self._keep(program), name=f"keep-{program.name}")
        keeper.add_done_callback(self._report)
        self._keepers[program.name] = keeper

    async def keep_server(self, server: Server) -> None:
        """Prepare a backend, keep it, and return when it answers. Raises `BackendFailed`."""
        await asyncio.to_thread(server.prepare)
        self.keep(Program(server.name, tuple(server.command()), log_of(server)))
        await asyncio.to_thread(wait_ready, server, lambda: self.runs(server.name))

    def runs(self, name: str) -> bool:
        """Whether the program of that name runs at this moment."""
        return name in self._running and process.is_running(self._running[name])

    async def stop(self, names: Collection[str], grace_seconds: float = SERVICE_GRACE_SECONDS) -> None:
        """End these side by side, for good: SIGTERM, and SIGKILL after `grace_seconds`."""
        keepers = [self._keepers.pop(name) for name in names if name in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        ending = [self._running.pop(name) for name in names if name in self._running]
        await asyncio.to_thread(process.stop, ending, grace_seconds)
        for ended in ending:
            self._roster.strike(ended.name)

    async def stop_all(self) -> None:
        """End all that is left, with the patience that a backend needs."""
        await self.stop(list(self._running), BACKEND_GRACE_SECONDS)

    async def _keep(self, program: Program) -> None:
        deaths = 0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            while self.runs(program.name):  # noqa: ASYNC110 - another process ends, which wakes nobody here
                await asyncio.sleep(POLL_SECONDS)
            self._roster.strike(program.name)
            deaths = 1 if clock() - began > STEADY_SECONDS else deaths + 1
            delay = RESTART.delay(deaths)
            self._say(f"{program.name} has ended; it is started again in {delay:.1f} s. Its output: {program.output}")
            await asyncio.sleep(delay)
            self._start(program)

    def _start(self, program: Program) -> None:
        started = process.spawn(
            program.name, program.command, program.output, tethered=True, environment=program.environment
        )
        self._running[program.name] = started
        self._roster.note(started)

    def _report(self, keeper: "asyncio.Task[None]") -> None:
        if not keeper.cancelled() and not self.failed.done() and (error := keeper.exception()):
            self.failed.set_exception(error)


@asynccontextmanager
async def open_supervisor(roster: PidRegistry, say: Say) -> AsyncIterator[Supervisor]:
    """A supervisor whose programs end with the block."""
    supervisor = Supervisor(roster, say)
    try:
        yield supervisor
    finally:
        await supervisor.stop_all()
        supervisor.failed.cancel()
