"""Stacks up and down."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from safevideo_devstack.backends import docker, process, state
from safevideo_devstack.backends.lock import exclusive
from safevideo_devstack.backends.processes import servers_of
from safevideo_devstack.backends.selection import candidates, start_first
from safevideo_devstack.backends.stack import Asked, Backends, Options, Ports, Say, Server
from safevideo_devstack.backends.starting import log_of, wait_ready

# One running server of a stack, and what can happen to it: it is killed, it hangs, it comes back.
#
# For drills, chaos tests and a supervisor. Everything here blocks: in a coroutine say
# `await asyncio.to_thread(server.restart)`.


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


# A stack that is up, with a hold on each of its servers.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBackends(Backends):
    """Backends and the folder that says what runs for them.

    Only the local stack has all three servers, and the embedded one has the cache. Of the given and the docker stack
    nobody may kill or freeze anything: `servers` is empty.
    """

    folder: Path

    @classmethod
    def of(cls, backends: Backends, folder: Path) -> "RunningBackends":
        """The same backends, which were started in `folder`."""
        return cls(**{each.name: getattr(backends, each.name) for each in fields(Backends)}, folder=folder)

    def servers(self) -> tuple[RunningServer, ...]:
        """Those that are processes of ours: `kafka-1` (to `kafka-3`), `mariadb` or `mysql`, `redis`; or `valkey`."""
        found = state.read(self.folder)
        return tuple(RunningServer(self.folder, each.name) for each in found.processes) if found else ()

    def server(self, *names: str) -> RunningServer:
        """The first server that has one of these names. Raises `LookupError`."""
        for server in self.servers():
            if server.name in names:
                return server
        raise LookupError(f"The {self.stack} stack has no server {' or '.join(names)} of its own.")

    @property
    def kafka(self) -> RunningServer:
        """The only broker, or the first of three. Raises `LookupError`."""
        return self.server("kafka-1")

    @property
    def mysql(self) -> RunningServer:
        """The database server. Raises `LookupError`."""
        return self.server("mariadb", "mysql")

    @property
    def redis(self) -> RunningServer:
        """Redis, or Valkey. Raises `LookupError`."""
        return self.server("redis", "valkey")


GRACE_SECONDS: Final = 8.0
"""What the servers get to end by themselves. Three brokers that end at once never do: they lose their quorum."""


def silent(_line: str) -> None:
    """Say nothing about slow work."""


def up(
    stack: Asked = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = silent,
) -> RunningBackends:
    """Bring a stack up in `folder` and return when all of it answers; return what is up there already.

    What is up there and is not what is asked for now, or is not whole, is stopped first. The data stays.
    Raises `BackendUnavailable` when it cannot be had here and `BackendFailed` when it does not come up; nothing of
    what was started is left then.
    """
    folder, options = folder.absolute(), options or Options()
    with exclusive(folder / state.LOCK):
        if found := _up_already(folder, stack, options):
            return RunningBackends.of(found, folder)
        _take_down(folder, GRACE_SECONDS)
        try:
            backends = start_first(candidates(stack, require_real=require_real), folder, options, say)
        except BaseException:
            _take_down(folder, 0.0)
            raise
        state.complete(folder, backends)
        return RunningBackends.of(backends, folder)


def down(folder: Path, *, forget: bool = False, grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop what was started in `folder`, by whomever. `forget` removes the data as well."""
    folder = folder.absolute()
    if not folder.exists():
        return
    with exclusive(folder / state.LOCK):
        _take_down(folder, grace_seconds)
        if forget:
            _empty(folder)


@contextmanager
def running(
    stack: Asked = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = silent,
) -> Iterator[RunningBackends]:
    """A stack that lasts as long as the block, and its data likewise. Raises what `up` raises."""
    try:
        yield up(stack, folder=folder, options=options, require_real=require_real, say=say)
    finally:
        down(folder, forget=True, grace_seconds=0.0)


def status(folder: Path) -> dict[str, bool]:
    """Whether each process and container that was started in `folder` still runs, by name or id."""
    if not (found := state.read(folder)):
        return {}
    return {each.name: process.is_running(each) for each in found.processes} | docker.running(found.containers)


def sweep(folder: Path, prefix: str) -> None:
    """Remove this user's folders of that prefix whose owners died before they could: their servers and their data."""
    for left in folder.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another run is sweeping it
            mine = left.stat().st_uid == os.geteuid()
            found = state.read(left) if mine else None
            if found and not process.is_running(found.owner):
                down(left, forget=True, grace_seconds=0.0)
                shutil.rmtree(left, ignore_errors=True)


def _up_already(folder: Path, stack: Asked, options: Options) -> Backends | None:
    found, servers = state.read(folder), status(folder)
    if not found or not servers or not all(servers.values()):
        return None
    return found.backends if stack in ("auto", found.stack) and _answers_to(options, found.options) else None


def _answers_to(asked: Options, found: Options) -> bool:
    ports = (getattr(asked.ports, each.name) or getattr(found.ports, each.name) for each in fields(Ports))
    return replace(asked, ports=Ports(*ports)) == found


def _take_down(folder: Path, grace_seconds: float) -> None:
    if found := state.read(folder):
        process.stop(found.processes, grace_seconds)
        if found.containers:
            docker.remove(found.containers)
        state.forget(folder)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != state.LOCK:  # somebody may be waiting for it
            entry.unlink()
