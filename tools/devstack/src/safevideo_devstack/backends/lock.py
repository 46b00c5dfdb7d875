"""One at a time, across processes."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safevideo_devstack.backends.stack import BackendFailed


@contextmanager
def exclusive(path: Path, *, seconds: float = 600.0) -> Iterator[None]:
    """Hold the lock file `path`, waiting for its holder at most `seconds`. The kernel frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + seconds
        while not _taken(file.fileno()):
            if time.monotonic() > deadline:
                raise BackendFailed(f"Another process has held {path} for {seconds:.0f} seconds.")
            time.sleep(0.1)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
