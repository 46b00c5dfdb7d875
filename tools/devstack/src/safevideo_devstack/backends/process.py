"""Processes that may outlive the one that started them: known by pid and birth, never by pid alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safevideo_devstack.backends.stack import BackendFailed

TETHER = Path(__file__).with_name("die_with_parent.py")
POLL_SECONDS = 0.02
FREEZE_SECONDS = 120.0

_TETHERING = ThreadPoolExecutor(1, thread_name_prefix="tethering")
"""The kernel ties a tether to a thread, not to its process, so all of them hang on one that lasts as long as it."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started here. `birth` tells it from a later one that got the same pid."""

    name: str
    pid: int
    birth: str


def spawn(
    name: str, command: Sequence[str], log: Path, *, tethered: bool, environment: Mapping[str, str] | None = None
) -> Process:
    """Start `command` in a session of its own, its output appended to `log`; `environment` is added to ours.

    A tethered process ends with this one, even when this one is killed.
    """
    variables = {**os.environ, **(environment or {})}
    if not tethered:
        return _spawn(name, command, log, variables)
    tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]
    return _TETHERING.submit(_spawn, name, [*tether, *command], log, variables).result()


def _spawn(name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not `Popen`: the object that stands for a child would have to be kept for as long as the child runs.
    pid = os.posix_spawnp(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), output, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE],
    )
    return Process(name, pid, birth_of(pid) or "")


def this_process() -> Process:
    """The one that asks."""
    return Process("owner", os.getpid(), birth_of(os.getpid()) or "")


def is_running(process: Process) -> bool:
    """Whether exactly this process still runs. Reaps it when it was a child and has ended."""
    if process.birth and birth_of(process.pid) == process.birth:
        return True
    with suppress(ChildProcessError):  # somebody else's child: init reaps it
        os.waitpid(process.pid, os.WNOHANG)
    return False


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal, unless the process is gone or its pid now belongs to another. Returns whether it was sent."""
    if not is_running(process):
        return False
    os.kill(process.pid, number)
    return True


def freeze(process: Process) -> None:
    """Return when none of its threads runs any more: on a busy machine some go on for a while after the signal."""
    send(process, signal.SIGSTOP)
    deadline = time.monotonic() + FREEZE_SECONDS
    while not _is_frozen(process.pid):
        if time.monotonic() > deadline:
            raise BackendFailed(f"{process.name} cannot be frozen.")
        time.sleep(POLL_SECONDS)


def stop(processes: Iterable[Process], grace_seconds: float) -> None:
    """End all of them: SIGTERM, and SIGKILL for those that are left after `grace_seconds`."""
    first = signal.SIGTERM if grace_seconds else signal.SIGKILL
    running = [process for process in processes if send(process, first)]
    for process in running:
        send(process, signal.SIGCONT)  # a stopped process does not see SIGTERM
    for process in _left(running, grace_seconds):
        send(process, signal.SIGKILL)
    _left(running, 10.0)


def run(command: Sequence[str], log: Path, *, seconds: float) -> None:
    """Run `command` to its end, its output appended to `log`. Raises `BackendFailed` with the last lines."""
    with log.open("ab") as output:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=seconds, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendFailed(f"{Path(command[0]).name} failed.\n{last_lines(log)}") from error


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log for people to read; says so when there is nothing in it."""
    lines = log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []
    return "\n".join([f"Last lines of {log}:", *(f"  {line}" for line in lines or ["(it is empty)"])])


def birth_of(pid: int) -> str | None:
    """When the process began, in whatever form the system tells; None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _birth_by_ps(pid)
    except ProcessLookupError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    threads, began = int(fields[16]), fields[18]  # fields 20 and 22 of proc(5)
    # Of a killed process the first thread may be gone while others still hold its ports and files.
    return None if state in "ZX" and threads <= 1 else f"{boot} {began}"


def _is_frozen(pid: int) -> bool:
    """Also when it has ended, and where the system does not tell."""
    with suppress(FileNotFoundError, ProcessLookupError):
        threads = [each.read_text(errors="replace") for each in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(thread.rpartition(")")[2].split()[0] in "TtZX" for thread in threads)
    return not Path(f"/proc/{pid}").exists()


def _birth_by_ps(pid: int) -> str | None:
    line = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
    ).stdout.strip()
    state, _, began = line.partition(" ")
    return None if not line or state.startswith("Z") else began.strip()


def _left(processes: Sequence[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if is_running(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return left
