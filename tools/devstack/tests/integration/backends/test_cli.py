"""`safevideo-backends`, as a person types it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safevideo_devstack.backends import lifecycle
from safevideo_devstack.backends.lifecycle import down


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "backends"
    down(tmp_path / "backends", grace_seconds=0.0)


def type_in(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "safevideo_devstack.backends.cli", *words]
    environment = {**os.environ, "COLUMNS": "200", "REQUIRE_REAL_BACKENDS": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def test_cli_backends_run_from_up_to_down(folder: Path) -> None:
    at = ("--folder", str(folder))
    came_up = type_in("up", "--stack", "embedded", *at)
    assert (came_up.returncode, "Backends: embedded" in came_up.stdout) == (0, True)
    assert lifecycle.status(folder) == {"valkey": True}
    assert "valkey: running" in type_in("status", *at).stdout
    assert type_in("down", *at).returncode == 0
    assert type_in("status", *at).returncode == 1


def test_cli_env_prints_exports_for_a_shell(folder: Path) -> None:
    type_in("up", "--stack", "embedded", "--folder", str(folder))
    lines = type_in("env", "--folder", str(folder)).stdout.splitlines()
    assert lines[0] == "export KAFKA_BOOTSTRAP_SERVERS=''"
    assert lines[1] == f"export DATABASE_URL=sqlite+aiosqlite:///{folder}/safevideo.db"
    assert lines[2].startswith("export REDIS_URL=redis://127.0.0.1:")


def test_cli_status_shows_a_server_that_ended(folder: Path) -> None:
    with lifecycle.running("embedded", folder=folder) as backends:
        backends.redis.kill()
        result = type_in("status", "--folder", str(folder))
    assert (result.returncode, "valkey: ended" in result.stdout) == (1, True)


def test_cli_env_without_backends_says_what_to_type(folder: Path) -> None:
    result = type_in("env", "--folder", str(folder))
    assert (result.returncode, result.stderr.strip().endswith("type: safevideo-backends up")) == (1, True)


def test_cli_up_with_an_unknown_stack_is_bad_usage(folder: Path) -> None:
    assert type_in("up", "--stack", "dockr", "--folder", str(folder)).returncode == 2
