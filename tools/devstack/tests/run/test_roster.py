import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from safevideo_devstack.backends import process
from safevideo_devstack.backends.process import Process
from safevideo_devstack.run.state_files import PidRegistry


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts processes that outlive whoever started them."""
    started: list[Process] = []

    def start(name: str) -> Process:
        started.append(process.spawn(name, ["sleep", "600"], tmp_path / "output", tethered=False))
        return started[-1]

    yield start
    process.stop(started, 0.0)


@pytest.fixture
def roster(tmp_path: Path) -> PidRegistry:
    return _roster(tmp_path)


def test_pids_are_kept_current(tmp_path: Path, roster: PidRegistry, sleeper: Callable[[str], Process]) -> None:
    first, other, second = sleeper("valkey"), sleeper("kafka-1"), sleeper("valkey")
    roster.note(first)
    roster.note(other)
    assert (tmp_path / "pids").read_text() == f"valkey={first.pid}\nkafka-1={other.pid}\n"
    roster.note(second)
    roster.strike("kafka-1")
    assert (tmp_path / "pids").read_text() == f"valkey={second.pid}\n"
    roster.close()
    assert not (tmp_path / "pids").exists()


def test_what_a_killed_run_has_left_is_ended(
    tmp_path: Path, roster: PidRegistry, sleeper: Callable[[str], Process]
) -> None:
    left = sleeper("valkey")
    roster.note(left)
    assert _roster(tmp_path).end_leftovers() == ["valkey"]
    assert not process.is_running(left)
    assert _roster(tmp_path).end_leftovers() == []


def test_whoever_got_the_pid_of_a_dead_process_is_left_alone(tmp_path: Path, roster: PidRegistry) -> None:
    roster.note(replace(process.this_process(), birth="of another boot 123"))
    assert _roster(tmp_path).end_leftovers() == []
    assert process.is_running(replace(process.this_process(), pid=os.getpid()))


def _roster(folder: Path) -> PidRegistry:
    return PidRegistry(folder / "pids", folder / "births")
