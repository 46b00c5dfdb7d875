"""The folder of what could not be read or delivered, kept for a person to look at, and kept small."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

CORRUPT: Final = "corrupt"

MAX_BYTES: Final = 64 * 1024 * 1024
"""Four whole segments. It is evidence, not events that somebody waits for: the disk is for those."""

MAX_FILES: Final = 1000
"""Damage comes in small pieces too, and a disk can run out of names."""


class EvictedFiles(NamedTuple):
    """What had to go."""

    files: int
    bytes: int


def write(root: Path, name: str, data: bytes) -> None:
    """Return when `data` is on disk under `name`. Raises `OSError`."""
    descriptor = os.open(place(root, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def place(root: Path, name: str) -> Path:
    """Where `name` belongs, in a folder that is there. Raises `OSError`."""
    folder = root / CORRUPT
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


def keep_within(root: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> EvictedFiles:
    """Remove the oldest files until the rest is within both bounds. What cannot be removed is left for the next time.

    Between two calls the folder can grow by what the spool itself may hold: each piece of it was there before.
    """
    files, size = 0, 0
    dropped = EvictedFiles(0, 0)
    for path, facts in sorted(_files(root / CORRUPT), key=lambda each: each[1].st_mtime_ns, reverse=True):
        files, size = files + 1, size + facts.st_size
        if files > max_files or size > max_bytes:
            with suppress(OSError):  # another process may have been quicker
                path.unlink()
                dropped = EvictedFiles(dropped.files + 1, dropped.bytes + facts.st_size)
    return dropped


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found: list[tuple[Path, os.stat_result]] = []
    with suppress(OSError):  # most spools never have one
        for entry in os.scandir(folder):
            with suppress(OSError):
                found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    return found
