"""Stacks up and down: the choice of a stack, and the servers of one that is up, which can be killed and frozen.

Everything here blocks: in a coroutine call `await asyncio.to_thread(server.restart)`.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from safevideo_devstack.backends import docker, process, state
from safevideo_devstack.backends.docker import start_docker
from safevideo_devstack.backends.external import start_external
from safevideo_devstack.backends.process import exclusive
from safevideo_devstack.backends.servers import output_of, servers_of, start_embedded, start_local, wait_ready
from safevideo_devstack.backends.stack import (
    Backends,
    BackendUnavailable,
    Options,
    Ports,
    Say,
    Server,
    Stack,
    StackChoice,
)

Starter = Callable[[Path, Options, Say], Backends]

STARTERS: Final[dict[Stack, Starter]] = {
    "external": start_external,
    "docker": start_docker,
    "local": start_local,
    "embedded": start_embedded,
}
"""The stacks in the order in which they are tried."""

GRACE_SECONDS: Final = 8.0
"""The time for servers to end by themselves. Three brokers that end at once never do: they lose their quorum."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that was started in `folder`, by its name there; the same one after it was started again."""

    folder: Path
    name: str

    def alive(self) -> bool:
        """Return whether its process exists, also when it is frozen."""
        return process.is_running(self._process())

    def kill(self) -> None:
        """End it as a power cut would, and return when it is gone."""
        process.stop([self._process()], 0.0)

    def pause(self) -> None:
        """Freeze it: its connections stay open, the kernel accepts new ones, and nothing answers.

        Raises `BackendFailed` when that takes two minutes.
        """
        process.freeze(self._process())

    def resume(self) -> None:
        """End its freeze."""
        process.send(self._process(), signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze it for the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Kill it for the block; it answers again afterwards. Raises `BackendFailed`."""
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
        """Start its process on its data unless it is alive; do not wait until it answers."""
        with exclusive(self.folder / state.LOCK):
            if self.alive():
                return
            server, die_with_parent = self._server(), state.get(self.folder).options.die_with_parent
            started = process.spawn(self.name, server.command(), output_of(server), die_with_parent=die_with_parent)
            state.add_process(self.folder, started)

    def wait_ready(self) -> None:
        """Return when it answers. Raises `BackendFailed` with the end of its output when it ends or is late."""
        wait_ready(self._server(), self.alive)

    def ensure_running(self) -> None:
        """Return when it runs and answers, also after it was killed or frozen. Raises `BackendFailed`."""
        self.resume()
        self.start()

    def _server(self) -> Server:
        found = state.get(self.folder)
        servers = servers_of(found.stack, self.folder.absolute(), found.options)
        return next(server for server in servers if server.name == self.name)

    def _process(self) -> process.Process:
        started = {each.name: each for each in state.get(self.folder).processes}
        if self.name not in started:
            raise LookupError(f"No server {self.name} was started in {self.folder}: {', '.join(started) or 'none'}.")
        return started[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBackends(Backends):
    """Backends and the folder that records what runs for them.

    The local stack has all three servers and the embedded one has the cache. The external and the docker stack have
    none: nobody may kill or freeze anything of them.
    """

    folder: Path

    @classmethod
    def of(cls, backends: Backends, folder: Path) -> "RunningBackends":
        """Return the same backends, which were started in `folder`."""
        return cls(**{each.name: getattr(backends, each.name) for each in fields(Backends)}, folder=folder)

    def servers(self) -> tuple[RunningServer, ...]:
        """Return our own processes: `kafka-1` (to `kafka-3`), `mariadb` or `mysql`, `redis`; or `valkey`."""
        found = state.find(self.folder)
        return tuple(RunningServer(self.folder, each.name) for each in found.processes) if found else ()

    def server(self, *names: str) -> RunningServer:
        """Return the first server that has one of these names. Raises `LookupError`."""
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


def quiet(_line: str) -> None:
    """Print nothing about slow work."""


def up(
    stack: StackChoice = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = quiet,
) -> RunningBackends:
    """Bring a stack up in `folder` and return when all of it answers; return what is up there already.

    Stops first what is up there with another choice, or is not whole. The data stays.
    Raises `BackendUnavailable` when it cannot run here and `BackendFailed` when it does not come up. Nothing of what
    was started is left then.
    """
    folder, options = folder.absolute(), options or Options()
    with exclusive(folder / state.LOCK):
        if found := _up_already(folder, stack, options):
            return RunningBackends.of(found, folder)
        _stop(folder, GRACE_SECONDS)
        try:
            backends = start_first(candidates(stack, require_real=require_real), folder, options, say)
        except BaseException:
            _stop(folder, 0.0)
            raise
        state.complete(folder, backends)
        return RunningBackends.of(backends, folder)


def down(folder: Path, *, forget: bool = False, grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop what any process has started in `folder`. `forget` removes the data as well."""
    folder = folder.absolute()
    if not folder.exists():
        return
    with exclusive(folder / state.LOCK):
        _stop(folder, grace_seconds)
        if forget:
            _remove_data(folder)


@contextmanager
def running(
    stack: StackChoice = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = quiet,
) -> Iterator[RunningBackends]:
    """Bring a stack up for the block, and remove its data afterwards. Raises the errors of `up`."""
    try:
        yield up(stack, folder=folder, options=options, require_real=require_real, say=say)
    finally:
        down(folder, forget=True, grace_seconds=0.0)


def status(folder: Path) -> dict[str, bool]:
    """Return whether each process and container that was started in `folder` still runs, by name or id."""
    if not (found := state.find(folder)):
        return {}
    return {each.name: process.is_running(each) for each in found.processes} | docker.running(found.containers)


def sweep(folder: Path, prefix: str) -> None:
    """Remove this user's folders of that prefix whose owners died before they could: their servers and their data."""
    for orphaned in folder.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another run is sweeping it
            mine = orphaned.stat().st_uid == os.geteuid()
            found = state.find(orphaned) if mine else None
            if found and not process.is_running(found.owner):
                down(orphaned, forget=True, grace_seconds=0.0)
                shutil.rmtree(orphaned, ignore_errors=True)


def parse_stack(name: str) -> StackChoice:
    """Return the stack of that name, or `auto`. Raises `BackendUnavailable`."""
    names: dict[str, StackChoice] = {"auto": "auto", **{stack: stack for stack in STARTERS}}
    if name not in names:
        raise BackendUnavailable(f"There is no stack {name!r}; choose one of {', '.join(names)}.")
    return names[name]


def candidates(choice: StackChoice, *, require_real: bool) -> list[Stack]:
    """Return the stacks to try, in order. `require_real` leaves out the embedded one, unless it is the choice."""
    if choice != "auto":
        return [choice]
    return [stack for stack in STARTERS if not (require_real and stack == "embedded")]


def start_first(stacks: Sequence[Stack], folder: Path, options: Options, say: Say) -> Backends:
    """Start the first stack that is available here.

    Raises `BackendUnavailable` with every reason when none is. Raises `BackendFailed` when one is available and fails:
    a broken Kafka must not look like a machine without Kafka.
    """
    reasons: list[str] = []
    for stack in stacks:
        try:
            return replace(STARTERS[stack](folder, options, say), skipped=tuple(reasons))
        except BackendUnavailable as error:
            reasons.append(f"{stack}: {error}")
    raise BackendUnavailable("No backends are available. " + "; ".join(reasons))


def _up_already(folder: Path, stack: StackChoice, options: Options) -> Backends | None:
    found, servers = state.find(folder), status(folder)
    if not found or not servers or not all(servers.values()):
        return None
    return found.backends if stack in ("auto", found.stack) and _satisfies(found.options, options) else None


def _satisfies(found: Options, options: Options) -> bool:
    ports = (getattr(options.ports, each.name) or getattr(found.ports, each.name) for each in fields(Ports))
    return replace(options, ports=Ports(*ports)) == found


def _stop(folder: Path, grace_seconds: float) -> None:
    if found := state.find(folder):
        process.stop(found.processes, grace_seconds)
        if found.containers:
            docker.remove(found.containers)
        state.remove(folder)


def _remove_data(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != state.LOCK:  # another process may be waiting for it
            entry.unlink()
