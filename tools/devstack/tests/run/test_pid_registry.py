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
    """Return a function that starts a process which outlives its parent."""
    started: list[Process] = []

    def start(name: str) -> Process:
        started.append(process.spawn(name, ["sleep", "600"], tmp_path / "output", die_with_parent=False))
        return started[-1]

    yield start
    process.stop(started, 0.0)


@pytest.fixture
def registry(tmp_path: Path) -> PidRegistry:
    return _registry(tmp_path)


def test_pid_registry_writes_the_running_processes(
    tmp_path: Path, registry: PidRegistry, sleeper: Callable[[str], Process]
) -> None:
    first, other, second = sleeper("valkey"), sleeper("kafka-1"), sleeper("valkey")
    registry.add(first)
    registry.add(other)
    assert (tmp_path / "pids").read_text() == f"valkey={first.pid}\nkafka-1={other.pid}\n"
    registry.add(second)
    registry.remove("kafka-1")
    assert (tmp_path / "pids").read_text() == f"valkey={second.pid}\n"
    registry.close()
    assert not (tmp_path / "pids").exists()


def test_pid_registry_stops_the_orphans_of_a_killed_run(
    tmp_path: Path, registry: PidRegistry, sleeper: Callable[[str], Process]
) -> None:
    orphan = sleeper("valkey")
    registry.add(orphan)
    assert _registry(tmp_path).stop_orphans() == ["valkey"]
    assert not process.is_running(orphan)
    assert _registry(tmp_path).stop_orphans() == []


def test_pid_registry_spares_another_process_with_the_pid_of_an_orphan(tmp_path: Path, registry: PidRegistry) -> None:
    registry.add(replace(process.this_process(), start_time="of another boot 123"))
    assert _registry(tmp_path).stop_orphans() == []
    assert process.is_running(replace(process.this_process(), pid=os.getpid()))


def _registry(folder: Path) -> PidRegistry:
    return PidRegistry(folder / "pids", folder / "processes.json")
