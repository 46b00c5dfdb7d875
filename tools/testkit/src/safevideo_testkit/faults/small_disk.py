"""A small file system of its own, for tests that fill a disk."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BLOCK: Final = 1 << 20


class CannotMount(Exception):
    """Raised if this process may not mount a file system. The message has the reason."""


class SmallDisk:
    """A tmpfs at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def remount(self, option: str) -> None:
        """Change an option of `mount`: `size=2m`, `ro`, `rw`."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True)

    def fill(self) -> None:
        """Leave no block free."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while True:
                os.write(descriptor, bytes(_BLOCK))  # the last ones are written in part
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Free the blocks that `fill` used."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a file system of this size at `path` for the block. Raises `CannotMount`."""
    if os.geteuid() != 0:
        raise CannotMount("only root may mount a small file system")
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise CannotMount(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
