"""The bounded directory of bytes that could not be read or delivered, for a person to examine."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

CORRUPT: Final = "corrupt"

MAX_BYTES: Final = 64 * 1024 * 1024
"""Four full segments. The files are evidence; the disk space is for events that wait for delivery."""

MAX_FILES: Final = 1000
"""Bounds small pieces of damage: a disk can run out of inodes."""


class EvictedFiles(NamedTuple):
    """The number and size of removed files."""

    files: int
    bytes: int


def write(root: Path, name: str, data: bytes) -> None:
    """Return when `data` is on disk under `name`. Raises `OSError`."""
    descriptor = os.open(path_for(root, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def path_for(root: Path, name: str) -> Path:
    """Return the path for `name`, in a directory that exists. Raises `OSError`."""
    directory = root / CORRUPT
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / name


def evict_oldest(root: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> EvictedFiles:
    """Remove the oldest files until both bounds hold. A file that cannot be removed stays for the next call.

    Between two calls the directory grows at most by the size of the spool: each piece of it was in the spool.
    """
    files, size = 0, 0
    evicted = EvictedFiles(0, 0)
    for path, status in sorted(_files(root / CORRUPT), key=lambda each: each[1].st_mtime_ns, reverse=True):
        files, size = files + 1, size + status.st_size
        if files > max_files or size > max_bytes:
            with suppress(OSError):  # another process may have removed it
                path.unlink()
                evicted = EvictedFiles(evicted.files + 1, evicted.bytes + status.st_size)
    return evicted


def _files(directory: Path) -> list[tuple[Path, os.stat_result]]:
    files: list[tuple[Path, os.stat_result]] = []
    with suppress(OSError):  # most spools have no such directory
        for entry in os.scandir(directory):
            with suppress(OSError):
                files.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    return files
