"""A lock file between processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from safevideo_common.file_lock import file_lock, lock_file

HOLDER = """
import pathlib, sys
from safevideo_common.file_lock import lock_file
lock_file(pathlib.Path(sys.argv[1])), print(flush=True), input()
"""


@contextmanager
def holder(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_file_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process, pytest.raises(ValueError, match=str(process.pid)), file_lock(path, ValueError):
        pass


def test_file_lock_waits_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        with file_lock(path, ValueError, wait_seconds=30):
            assert path.read_text() == str(os.getpid())


def test_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock", ValueError):
        assert lock_file(tmp_path / "lock") is None
    descriptor = lock_file(tmp_path / "lock")
    assert descriptor is not None
    os.close(descriptor)
