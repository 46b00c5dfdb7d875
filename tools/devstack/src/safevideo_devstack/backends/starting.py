"""Brings the servers of a stack up side by side."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from safevideo_devstack.backends.process import Process, is_running, last_lines
from safevideo_devstack.backends.stack import BackendFailed, NotReady, Server

READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Started:
    """A server that answers."""

    server: Server
    version: str
    seconds: float


def start(servers: Sequence[Server], spawn: Callable[[Server], Process]) -> list[Started]:
    """Prepare all, spawn each as soon as it is prepared, and return when all answer. Raises `BackendFailed`."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(servers)) as pool:
        preparing = {pool.submit(server.prepare): server for server in servers}
        answering: list[Future[Started]] = []
        for prepared in as_completed(preparing):
            prepared.result()
            server = preparing[prepared]
            process = spawn(server)  # in this thread, not in the pool's: it writes the list of processes
            answering.append(pool.submit(_answer, server, process, began))
        return [answer.result() for answer in answering]


def wait_ready(server: Server, is_alive: Callable[[], bool], *, seconds: float = READY_SECONDS) -> str:
    """Return the version of the server once it answers. Raises `BackendFailed` when it ends or is late."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return server.probe()
        except NotReady as error:
            if not is_alive():
                raise BackendFailed(f"{server.name} ended while starting. {last_lines(log_of(server))}") from error
            if time.monotonic() > deadline:
                raise BackendFailed(
                    f"{server.name} has not answered for {seconds:.0f} seconds: {error} {last_lines(log_of(server))}"
                ) from error
        time.sleep(0.03)


def log_of(server: Server) -> Path:
    """Where the output of a server goes."""
    return server.folder / "output.log"


def _answer(server: Server, process: Process, began: float) -> Started:
    version = wait_ready(server, lambda: is_running(process))
    return Started(server, version, time.monotonic() - began)
