"""One run a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safevideo_common.errors import StartupError


@contextmanager
def sole_run(lock: Path) -> Iterator[None]:
    """Hold `lock` for the block; the kernel frees it however this process ends.

    Raises `StartupError` naming the process that holds it.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(_runs_already(lock)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _runs_already(lock: Path) -> str:
    pid = lock.read_text().strip() or "just starting"
    return (
        f"make run is running already in {lock.parent}: process {pid}.\n"
        f"End it with Ctrl-C in its terminal, or type: kill {pid}\n"
        f"For a second one beside it type: RUN_DIR=.run-2 PORT_OFFSET=1000 make run"
    )
