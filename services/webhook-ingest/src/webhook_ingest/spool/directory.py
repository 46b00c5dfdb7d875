"""The directory of one process in the spool, and the lock that shows whether that process is alive."""

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
_ID: Final = "id"
UNFINISHED: Final = ".new-"
"""Prefix of the names of files and directories in creation."""
_NAME: Final = re.compile(r"\d+-[0-9a-f]{12}")


class SpoolDirectory:
    """A locked directory. The kernel releases the lock when the process dies, for whatever reason."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, root: Path) -> "SpoolDirectory":
        """Create a directory that only its owner can read: bodies hold personal data. Raises `OSError`."""
        make_root(root)
        name = f"{time.time_ns()}-{secrets.token_hex(6)}"
        with _lock(root, fcntl.LOCK_SH):
            unfinished = root / f"{UNFINISHED}{name}"
            unfinished.mkdir(mode=0o700)
            lock = lock_file(unfinished / _LOCK)
            assert lock is not None, "nobody else knows this name"
            # Renamed only when locked: a process that looks for dead ones never sees it without a lock.
            path = unfinished.rename(root / name)
        sync_directory(root)
        return cls(path, lock)

    @classmethod
    def lock(cls, path: Path) -> "SpoolDirectory | None":
        """Lock the directory of a dead process; None if another process has the lock. Raises `OSError`."""
        lock = lock_file(path / _LOCK)
        return None if lock is None else cls(path, lock)

    def segment_paths(self) -> list[Path]:
        """Return the paths of the segments, oldest first."""
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def save_position(self, segment: str, offset: int) -> None:
        """Save that everything before `offset` of `segment`, the oldest one, is delivered.

        There is no fsync: after a power cut, or if this fails, events are delivered once more.
        """
        with suppress(OSError):
            descriptor = os.open(self.path / _PROGRESS, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, f"{segment} {offset:020d}\n".encode(), 0)  # in place: works on a full disk
            finally:
                os.close(descriptor)

    def load_position(self) -> tuple[str, int]:
        """Return the saved position; an empty name if none was saved or it is not valid."""
        try:
            segment, offset = (self.path / _PROGRESS).read_text().split()
            return segment, int(offset)
        except (OSError, ValueError):
            return "", 0

    def close(self) -> None:
        """Unlock the directory, and remove it if it has no segments."""
        with suppress(OSError):
            if not self.segment_paths():  # the lock file goes while the lock is held
                for name in (_PROGRESS, _LOCK):
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()
        self.unlock()

    def unlock(self) -> None:
        """Unlock the directory and leave its files as they are."""
        os.close(self._lock)


def make_root(root: Path) -> None:
    """Create the directory of all spools, if needed. Raises `OSError` if it is not writable."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "not writable", str(root))


def spool_id(root: Path) -> str:
    """Return the id of the disk that has `root`. Its first process makes it, and it stays. Raises `OSError`."""
    make_root(root)
    path = root / _ID
    with suppress(FileNotFoundError):
        return path.read_text()
    with _lock(root, fcntl.LOCK_EX):  # waits for creations of directories, which take milliseconds
        if not path.exists():
            unfinished = root / f"{UNFINISHED}{_ID}"
            unfinished.write_text(secrets.token_hex(8))
            unfinished.replace(path)
        return path.read_text()


def list_directories(root: Path) -> list[Path]:
    """Return the directories of all processes, dead or alive, in order of creation. Raises `OSError`."""
    make_root(root)
    # By name: the time of a directory changes when a file leaves it, and several may have events of one key.
    paths = [path for path in root.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.name.partition("-")[0]))


def remove_unfinished(root: Path) -> None:
    """Remove what killed processes left in creation, and nothing that is in creation now.

    A process that creates something holds a shared lock on `root`. If the exclusive lock is free, nothing found before
    is in creation. If it is not free, the files stay until the next call.
    """
    with suppress(OSError):
        paths = [path for path in root.iterdir() if path.name.startswith(UNFINISHED)]
        if paths and _is_exclusive_lock_free(root):
            for path in paths:
                rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Return when the file names in `directory` are on disk. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(root: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)  # the holder of the exclusive lock releases it at once
        yield
    finally:
        os.close(descriptor)


def _is_exclusive_lock_free(root: Path) -> bool:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
