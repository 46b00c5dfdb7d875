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
child = spawn("child", ["sleep", "600"], Path(sys.argv[1]), die_with_parent=sys.argv[2] == "die")
print(child.pid, child.start_time, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], Process]]:
    started: list[Process] = []

    def start(command: list[str]) -> Process:
        output = tmp_path / f"{len(started)}.log"
        process = spawn("sleeper", command, output, die_with_parent=False)
        started.append(process)
        until(lambda: output.exists() and output.read_text().startswith("up\n"))
        return process

    yield start
    stop(started, 0.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute"


def test_process_runs_until_it_is_stopped(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    assert is_running(process)
    stop([process], 5.0)
    assert not is_running(process)


def test_stop_kills_a_process_that_ignores_sigterm(start: Callable[[list[str]], Process]) -> None:
    process = start(DEAF)
    stop([process], 0.1)
    assert not is_running(process)


def test_stop_ends_a_frozen_process(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    send(process, signal.SIGSTOP)
    stop([process], 5.0)
    assert not is_running(process)


def test_freeze_stops_every_thread(start: Callable[[list[str]], Process], tmp_path: Path) -> None:
    process = start([sys.executable, "-c", BUSY])
    freeze(process)
    written = (tmp_path / "0.log").stat().st_size
    run([sys.executable, "-c", "pass"], tmp_path / "meanwhile", seconds=60)
    assert (tmp_path / "0.log").stat().st_size == written


def test_signals_spare_a_later_process_with_the_same_pid(start: Callable[[list[str]], Process]) -> None:
    process = start(SLEEPER)
    earlier = replace(process, start_time="another boot 123")
    assert not send(earlier, signal.SIGKILL)
    stop([earlier], 0.0)
    assert is_running(process)


def test_signals_spare_a_process_without_a_start_time(start: Callable[[list[str]], Process]) -> None:
    assert not send(replace(start(SLEEPER), start_time=""), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    child = _orphan(tmp_path / "log", "die")
    until(lambda: not is_running(child))


def test_process_outlives_its_parent_by_default(tmp_path: Path) -> None:
    child = _orphan(tmp_path / "log", "outlive")
    assert is_running(child)
    stop([child], 0.0)


def test_run_reports_the_end_of_the_output_of_a_command_that_fails(tmp_path: Path) -> None:
    with pytest.raises(BackendFailed, match="the reason"):
        run([sys.executable, "-c", "import sys; sys.exit('the reason')"], tmp_path / "log", seconds=60)


def test_last_lines_call_a_missing_file_empty(tmp_path: Path) -> None:
    assert "(it is empty)" in last_lines(tmp_path / "log")


def _orphan(output: Path, mode: str) -> Process:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(output), mode], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid, _, start_time = parent.stdout.readline().strip().partition(" ")
        os.kill(parent.pid, signal.SIGKILL)
    return Process("child", int(pid), start_time)
