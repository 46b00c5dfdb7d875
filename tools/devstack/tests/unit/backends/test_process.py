import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from safevideo_devstack.backends.process import (
    Process,
    freeze,
    is_running,
    last_lines,
    run,
    send,
    spawn,
    stop,
)
from safevideo_devstack.backends.stack import BackendFailed

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
BUSY = """
import os, threading
print("up", flush=True)
for _ in range(8):
    threading.Thread(target=lambda: [os.write(1, b".") for _ in range(10**9)]).start()
"""
PARENT = """
import sys, time
from pathlib import Path
from safevideo_devstack.backends.process import spawn
child = spawn("child", ["sleep", "600"], Path(sys.argv[1]), tethered=sys.argv[2] == "tethered")
print(child.pid, child.birth, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], Process]]:
    started: list[Process] = []

    def start(command: list[str]) -> Process:
        log = tmp_path / f"{len(started)}.log"
        process = spawn("sleeper", command, log, tethered=False)
        started.append(process)
        until(lambda: log.exists() and log.read_text().startswith("up\n"))
        return process

    yield start
    stop(started, 0.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute"


def test_a_process_runs_until_it_is_stopped(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    assert is_running(process)
    stop([process], 5.0)
    assert not is_running(process)


def test_a_process_that_ignores_the_request_to_end_is_killed(start: Callable[[list[str]], Process]) -> None:
    process = start(DEAF)
    stop([process], 0.1)
    assert not is_running(process)


def test_a_frozen_process_ends_as_well(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    send(process, signal.SIGSTOP)
    stop([process], 5.0)
    assert not is_running(process)


def test_no_thread_of_a_frozen_process_goes_on(start: Callable[[list[str]], Process], tmp_path: Path) -> None:
    process = start([sys.executable, "-c", BUSY])
    freeze(process)
    written = (tmp_path / "0.log").stat().st_size
    run([sys.executable, "-c", "pass"], tmp_path / "meanwhile", seconds=60)
    assert (tmp_path / "0.log").stat().st_size == written


def test_a_later_process_with_the_same_pid_is_left_alone(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    yesterdays = replace(process, birth="another boot 123")
    assert not send(yesterdays, signal.SIGKILL)
    stop([yesterdays], 0.0)
    assert is_running(process)


def test_a_process_whose_birth_is_unknown_is_left_alone(start: Callable[[list[str]], Process]) -> None:
    assert not send(replace(start(SLEEPER), birth=""), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_tethered_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    child = _orphan(tmp_path / "log", "tethered")
    until(lambda: not is_running(child))


def test_any_other_process_outlives_its_parent(tmp_path: Path) -> None:
    child = _orphan(tmp_path / "log", "free")
    assert is_running(child)
    stop([child], 0.0)


def test_a_command_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(BackendFailed, match="the reason"):
        run([sys.executable, "-c", "import sys; sys.exit('the reason')"], tmp_path / "log", seconds=60)


def test_a_log_that_is_not_there_is_called_empty(tmp_path: Path) -> None:
    assert "(it is empty)" in last_lines(tmp_path / "log")


def _orphan(log: Path, tether: str) -> Process:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log), tether], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid, _, birth = parent.stdout.readline().strip().partition(" ")
        os.kill(parent.pid, signal.SIGKILL)
    return Process("child", int(pid), birth)
