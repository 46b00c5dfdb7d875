"""One run for each folder, and `make clean` only without a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.state_files import single_instance

CLEAN = Path(__file__).parents[2] / "clean.py"
HOLDER = """
import sys, pathlib, safevideo_devstack.run.state_files as state_files
with state_files.single_instance(pathlib.Path(sys.argv[1])):
    print(flush=True), input()
"""


def test_second_run_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first, second = single_instance(tmp_path / "lock"), single_instance(tmp_path / "lock")
    with first, pytest.raises(StartupError, match=f"process {os.getpid()}") as refused, second:
        pass
    assert f"kill {os.getpid()}" in str(refused.value)


def test_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StartupError, match=f"process {holder.pid}"), single_instance(tmp_path / "lock"):
            pass
        holder.kill()
    with single_instance(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_clean_removes_the_state(tmp_path: Path) -> None:
    folder = tmp_path / ".run"
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "secrets.json").touch()
    assert _clean(folder).returncode == 0
    assert not folder.exists()
    assert _clean(folder).returncode == 0


def test_clean_refuses_while_a_run_has_the_folder(tmp_path: Path) -> None:
    with single_instance(tmp_path / "lock"):
        refused = _clean(tmp_path)
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stderr
    assert (tmp_path / "lock").exists()


def test_clean_refuses_a_folder_that_no_run_has_made(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert _clean(tmp_path).returncode == 1
    assert (tmp_path / "precious").exists()


def _clean(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(CLEAN), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
