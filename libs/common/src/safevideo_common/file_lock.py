"""Lock files: one process at a time holds one, and the kernel frees it however that process ends."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.1


def lock_file(path: Path) -> int | None:
    """Lock `path` and write our pid into it. Raises `OSError`.

    Return its descriptor, which holds the lock until it is closed, or None while another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        with suppress(OSError):  # the pid is for a reader; the lock counts, also on a full disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        undo.pop_all()
    return descriptor


@contextmanager
def file_lock(path: Path, refusal: Callable[[str], Exception], wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the block, after waiting for its holder at most `wait_seconds`.

    Raises what `refusal` makes of the holder's pid, which is empty while the holder has not written it.
    """
    deadline = time.monotonic() + wait_seconds
    while (descriptor := lock_file(path)) is None:
        if time.monotonic() >= deadline:
            raise refusal(path.read_text().strip())
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
