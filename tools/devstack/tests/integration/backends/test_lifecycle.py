"""Stacks up and down, also after a crash. Mostly on the embedded stack, which starts at once."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from safevideo_devstack.backends import BackendFailed, Options, Ports, lifecycle, state
from safevideo_devstack.backends.lifecycle import RunningBackends, down, up
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_devstack.backends.process import Process, is_running

OWNER = """
import sys, time
from pathlib import Path
from safevideo_devstack.backends import up
up(sys.argv[2], folder=Path(sys.argv[1]))
print("up", flush=True)
time.sleep(600)
"""
Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "backends"
    down(tmp_path / "backends", grace_seconds=0.0)


def pids(backends: RunningBackends) -> dict[str, int]:
    return {each.name: each.pid for each in state.get(backends.folder).processes}


def test_up_reuses_what_is_up(folder: Path) -> None:
    first = up("embedded", folder=folder)
    again = up("embedded", folder=folder)
    assert (again, pids(again)) == (first, pids(first))


def test_up_restarts_a_stack_with_other_options(folder: Path) -> None:
    before = pids(up("embedded", folder=folder))
    after = pids(up("embedded", folder=folder, options=Options(appendfsync="always")))
    assert before.keys() == after.keys()
    assert before != after


def test_up_restarts_a_stack_that_lost_a_server(folder: Path) -> None:
    first = up("embedded", folder=folder)
    first.redis.kill()
    assert lifecycle.status(folder) == {"valkey": False}
    up("embedded", folder=folder)
    assert lifecycle.status(folder) == {"valkey": True}


def test_down_stops_every_process_and_removes_data_only_with_forget(folder: Path) -> None:
    up("embedded", folder=folder)
    processes = state.get(folder).processes
    down(folder)
    assert not any(map(is_running, processes))
    assert lifecycle.status(folder) == {}
    assert (folder / "valkey" / "data").exists()
    down(folder, forget=True)
    assert [entry.name for entry in folder.iterdir()] == ["lock"]


def test_down_accepts_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    down(tmp_path / "nowhere", forget=True)


def test_up_that_fails_leaves_nothing_running(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        options = Options(ports=Ports(redis=holder.getsockname()[1]))
        with pytest.raises(BackendFailed, match="is taken"):
            up("embedded", folder=folder, options=options)
    assert lifecycle.status(folder) == {}


@pytest.mark.parametrize("stack", ["embedded", "local"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_sweep_removes_the_folder_of_a_killed_owner_whose_servers_died(
    folder: Path, stack: str, until: Until, request: pytest.FixtureRequest
) -> None:
    if stack == "local":
        request.getfixturevalue("local")
    processes = _killed_while_up(folder, stack)
    until(lambda: not any(map(is_running, processes)))
    lifecycle.sweep(folder.parent, folder.name)
    assert not folder.exists()


def test_sweep_keeps_the_folder_of_a_live_owner(folder: Path) -> None:
    up("embedded", folder=folder)
    lifecycle.sweep(folder.parent, folder.name)
    assert lifecycle.status(folder) == {"valkey": True}


@pytest.mark.usefixtures("local")
def test_up_restarts_a_local_stack_on_its_ports_and_data(folder: Path) -> None:
    with mysql_connection(up("local", folder=folder).database_url) as connection:
        connection.execute(text("CREATE TABLE kept (id INT PRIMARY KEY)"))
    ports = state.get(folder).options.ports
    down(folder)
    again = up("local", folder=folder, options=Options(ports=ports, fast_start=False))
    assert again.kafka_bootstrap_servers == f"127.0.0.1:{ports.kafka[0]}"
    with mysql_connection(again.database_url) as connection:
        assert connection.scalars(text("SHOW TABLES")).all() == ["kept"]


def _killed_while_up(folder: Path, stack: str) -> tuple[Process, ...]:
    command = [sys.executable, "-c", OWNER, str(folder), stack]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        processes = state.get(folder).processes
        assert all(map(is_running, processes))
        owner.send_signal(signal.SIGKILL)
    return processes
