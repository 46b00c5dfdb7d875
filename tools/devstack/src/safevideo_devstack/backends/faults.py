"""One running server of a stack, and what can happen to it: it is killed, it hangs, it comes back.

For drills, chaos tests and a supervisor. Everything here blocks: in a coroutine say
`await asyncio.to_thread(server.restart)`.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safevideo_devstack.backends import process, state
from safevideo_devstack.backends.lock import exclusive
from safevideo_devstack.backends.processes import servers_of
from safevideo_devstack.backends.stack import Server
from safevideo_devstack.backends.starting import log_of, wait_ready


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that was started in `folder`, by its name there; the same one after it was started again."""

    folder: Path
    name: str

    def alive(self) -> bool:
        """Whether its process is there, be it frozen."""
        return process.is_running(self._process())

    def kill(self) -> None:
        """End it as a power cut would, and return when it is gone."""
        process.stop([self._process()], 0.0)

    def pause(self) -> None:
        """Freeze it: its connections stay open, new ones are taken by the kernel, and nothing answers.

        Raises `BackendFailed` when that takes two minutes.
        """
        process.freeze(self._process())

    def resume(self) -> None:
        """Let it go on."""
        process.send(self._process(), signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Frozen for as long as the block lasts."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Gone for as long as the block lasts; it answers again afterwards. Raises `BackendFailed`."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def start(self) -> None:
        """Start it on its data unless it is alive, and return when it answers. Raises `BackendFailed`."""
        self.spawn()
        self.wait_ready()

    def restart(self) -> None:
        """Kill it, start it on its data, and return when it answers. Raises `BackendFailed`."""
        self.kill()
        self.start()

    def spawn(self) -> None:
        """Start its process on its data unless it is alive; take no time for it to answer."""
        with exclusive(self.folder / state.LOCK):
            if self.alive():
                return
            server, tethered = self._server(), state.recorded(self.folder).options.tethered
            state.add_process(
                self.folder, process.spawn(self.name, server.command(), log_of(server), tethered=tethered)
            )

    def wait_ready(self) -> None:
        """Return when it answers. Raises `BackendFailed` with the end of its log when it ends or is not in time."""
        wait_ready(self._server(), self.alive)

    def heal(self) -> None:
        """Have it up and answering, whatever was done to it. Raises `BackendFailed`."""
        self.resume()
        self.start()

    def _server(self) -> Server:
        found = state.recorded(self.folder)
        servers = servers_of(found.stack, self.folder.absolute(), found.options)
        return next(server for server in servers if server.name == self.name)

    def _process(self) -> process.Process:
        started = {each.name: each for each in state.recorded(self.folder).processes}
        if self.name not in started:
            raise LookupError(f"No server {self.name} was started in {self.folder}: {', '.join(started) or 'none'}.")
        return started[self.name]
