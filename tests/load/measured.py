"""A program under measurement: started, ready, measured in CPU time, stopped. And what loads it, asked for its result.

Nothing here waits without a deadline.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
BEYOND_SECONDS = 20.0
"""What a generator of load may take beyond the seconds that it was told to load for."""
TICKS = os.sysconf("SC_CLK_TCK")
TCP_LISTEN = "0A"


@dataclass(frozen=True)
class Program:
    """A running program."""

    pid: int

    def cpu_seconds(self) -> float:
        """Return its user and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def program(command: Sequence[str], environment: Mapping[str, str], output: Path) -> Iterator[Program]:
    """`command` until the block ends. Its output is appended to `output`."""
    with output.open("ab") as sink:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=sink, stderr=sink)
        with _ended(process):
            yield Program(process.pid)


@dataclass(frozen=True)
class Generator:
    """A running generator of load. The last thing it says is a line `RESULT {…}`."""

    process: "subprocess.Popen[str]"
    deadline: float

    def result(self) -> dict[str, float]:
        """What it measured. Raises `subprocess.TimeoutExpired` past its deadline, `ValueError` if it says nothing."""
        said, _ = self.process.communicate(timeout=max(0.0, self.deadline - time.monotonic()))
        (line,) = (line for line in said.splitlines() if line.startswith("RESULT "))
        result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
        return result


@contextmanager
def generator(command: Sequence[str], seconds: float) -> Iterator[Generator]:
    """`command`, which loads something for `seconds`, until the block ends at the latest."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with _ended(process):
        yield Generator(process, time.monotonic() + seconds + BEYOND_SECONDS)


@contextmanager
def _ended(process: "subprocess.Popen[Any]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait(STOP_SECONDS)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_listening(port: int, sockets: int = 1) -> None:
    """Return once `sockets` sockets listen on `port`. Raises `TimeoutError`."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if _listening_sockets(port) >= sockets:
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def _listening_sockets(port: int) -> int:
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == TCP_LISTEN for row in rows)
