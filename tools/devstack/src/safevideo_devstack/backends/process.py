"""Processes that may outlive the one that started them: identified by pid and start time, never by pid alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from safevideo_common.file_lock import file_lock
from safevideo_devstack.backends.stack import BackendFailed

DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
POLL_SECONDS = 0.02
FREEZE_SECONDS = 120.0
LOCK_SECONDS = 600.0

_SPAWNING = ThreadPoolExecutor(1, thread_name_prefix="spawning")
"""The kernel ends a process with the thread that started it: this thread lives as long as our process."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started here. `start_time` tells it from a later one that got the same pid."""

    name: str
    pid: int
    start_time: str


def spawn(
    name: str,
    command: Sequence[str],
    output: Path,
    *,
    die_with_parent: bool,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start `command` in a session of its own; append what it prints to `output` and `environment` to ours.

    With `die_with_parent` it ends with this process, even when this one is killed.
    """
    variables = {**os.environ, **(environment or {})}
    if not die_with_parent:
        return _spawn(name, command, output, variables)
    wrapper = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid())]
    return _SPAWNING.submit(_spawn, name, [*wrapper, *command], output, variables).result()


def _spawn(name: str, command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Process:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not `Popen`: the object that stands for a child would have to be kept for as long as the child runs.
    pid = os.posix_spawnp(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE],
    )
    return Process(name, pid, start_time_of(pid) or "")


def this_process(name: str = "owner") -> Process:
    """Return the calling process."""
    return Process(name, os.getpid(), start_time_of(os.getpid()) or "")


def is_running(process: Process) -> bool:
    """Return whether exactly this process still runs. Reaps it when it was a child and has ended."""
    if process.start_time and start_time_of(process.pid) == process.start_time:
        return True
    with suppress(ChildProcessError):  # somebody else's child: init reaps it
        os.waitpid(process.pid, os.WNOHANG)
    return False


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal, unless the process is gone or its pid now belongs to another. Return whether it was sent."""
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
    """End all of them: SIGTERM, and SIGKILL for those that still run after `grace_seconds`."""
    first = signal.SIGTERM if grace_seconds else signal.SIGKILL
    running = [process for process in processes if send(process, first)]
    for process in running:
        send(process, signal.SIGCONT)  # a stopped process does not see SIGTERM
    for process in _still_running(running, grace_seconds):
        send(process, signal.SIGKILL)
    _still_running(running, 10.0)


def run(command: Sequence[str], output: Path, *, seconds: float) -> None:
    """Run `command` to its end, append what it prints to `output`. Raises `BackendFailed` with the last lines."""
    with output.open("ab") as file:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=seconds, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendFailed(f"{Path(command[0]).name} failed.\n{last_lines(output)}") from error


def last_lines(output: Path, count: int = 15) -> str:
    """Return the end of a file for people to read, or say that there is nothing in it."""
    lines = output.read_text(errors="replace").splitlines()[-count:] if output.exists() else []
    return "\n".join([f"Last lines of {output}:", *(f"  {line}" for line in lines or ["(it is empty)"])])


def exclusive(path: Path) -> AbstractContextManager[None]:
    """Hold the lock file `path` for the block, after waiting for its holder. Raises `BackendFailed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = BackendFailed(f"Another process has held {path} for {LOCK_SECONDS:.0f} seconds.")
    return file_lock(path, lambda _: refusal, LOCK_SECONDS)


def start_time_of(pid: int) -> str | None:
    """Return when the process began, in the system's own form; None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _start_time_by_ps(pid)
    except ProcessLookupError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    threads, began = int(fields[16]), fields[18]  # fields 20 and 22 of proc(5)
    # Of a killed process the first thread may be gone while others still hold its ports and files.
    return None if state in "ZX" and threads <= 1 else f"{boot} {began}"


def _is_frozen(pid: int) -> bool:
    """Return True also when it has ended, and where the system does not show it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        threads = [each.read_text(errors="replace") for each in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(thread.rpartition(")")[2].split()[0] in "TtZX" for thread in threads)
    return not Path(f"/proc/{pid}").exists()


def _start_time_by_ps(pid: int) -> str | None:
    line = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
    ).stdout.strip()
    state, _, began = line.partition(" ")
    return None if not line or state.startswith("Z") else began.strip()


def _still_running(processes: Sequence[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    while (running := [process for process in processes if is_running(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return running
