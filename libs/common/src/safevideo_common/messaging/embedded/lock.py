"""One process at a time has the log open."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safevideo_common.errors import StartupError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which names our pid. The kernel lets it go when we die, however we do.

    Raises `StartupError` naming the process that has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise StartupError(f"The event log in {path.parent} is open in process {owner}: stop that first.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
