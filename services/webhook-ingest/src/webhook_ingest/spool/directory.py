"""The folder of one process, and the lock that says whether that process lives."""

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

from safevideo_common.file_lock import lock_file

SUFFIX: Final = ".spool"
_LOCK: Final = "lock"
_PROGRESS: Final = "progress"
UNFINISHED: Final = ".new-"
"""Begins the names of what is just being made."""
_NAME: Final = re.compile(r"\d+-[0-9a-f]{12}")


class SpoolDirectory:
    """Ours while this object is open: the kernel lets the lock go when the process dies, however it dies."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls, root: Path) -> "SpoolDirectory":
        """A new one in `root`, readable by its owner alone: bodies hold personal data. Raises `OSError`."""
        make_root(root)
        name = f"{time.time_ns()}-{secrets.token_hex(6)}"
        with _shared(root):
            unfinished = root / f"{UNFINISHED}{name}"
            unfinished.mkdir(mode=0o700)
            lock = lock_file(unfinished / _LOCK)
            assert lock is not None, "nobody else knows this name"
            # It gets its name when it is locked: a process that looks for the dead never sees it otherwise.
            path = unfinished.rename(root / name)
        sync_folder(root)
        return cls(path, lock)

    @classmethod
    def claim(cls, path: Path) -> "SpoolDirectory | None":
        """The one at `path`, if its process is dead and nobody else has claimed it. Raises `OSError`."""
        lock = lock_file(path / _LOCK)
        return None if lock is None else cls(path, lock)

    def segments(self) -> list[Path]:
        """The files with records, oldest first."""
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def remember(self, segment: str, offset: int) -> None:
        """Before `offset` of the file `segment`, the oldest, all is delivered.

        Not fsynced: what a power cut takes is delivered once more. A failure costs no more than that.
        """
        with suppress(OSError):
            descriptor = os.open(self.path / _PROGRESS, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, f"{segment} {offset:020d}\n".encode(), 0)  # in place: it has room on a full disk
            finally:
                os.close(descriptor)

    def remembered(self) -> tuple[str, int]:
        """What was remembered; an empty name where nothing was, or nothing that makes sense."""
        try:
            segment, offset = (self.path / _PROGRESS).read_text().split()
            return segment, int(offset)
        except (OSError, ValueError):
            return "", 0

    def close(self) -> None:
        """Let it go, and take it away when it has no records."""
        with suppress(OSError):
            if not self.segments():  # the lock goes with it, and while it is held
                for name in (_PROGRESS, _LOCK):
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()
        self.release()

    def release(self) -> None:
        """Let it go as it is."""
        os.close(self._lock)


def make_root(root: Path) -> None:
    """Have the folder of all spools, where we can write. Raises `OSError`."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "not writable", str(root))


def folders_in(root: Path) -> list[Path]:
    """The folders of processes, dead or alive, in `root`, in the order in which they were made. Raises `OSError`."""
    make_root(root)
    # By name: the time of a folder moves whenever a file of it is removed, and events of one key may be in several.
    found = [path for path in root.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[0]))


def remove_unfinished(root: Path) -> None:
    """Remove what processes left that were killed while they made it, and nothing that is just being made.

    Whoever makes something holds a shared lock on `root`. When it can be had alone, nobody was making anything that
    had been found before; a moment in which somebody is costs no more than that it stays until the next time.
    """
    with suppress(OSError):
        found = [path for path in root.iterdir() if path.name.startswith(UNFINISHED)]
        if found and _was_nobody_in(root):
            for path in found:
                rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)


@contextmanager
def _shared(root: Path) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # whoever wants it alone lets it go at once
        yield
    finally:
        os.close(descriptor)


def _was_nobody_in(root: Path) -> bool:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
