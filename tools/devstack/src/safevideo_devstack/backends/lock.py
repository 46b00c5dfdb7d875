"""One at a time, across processes."""

from contextlib import AbstractContextManager
from pathlib import Path

from safevideo_common.file_lock import file_lock
from safevideo_devstack.backends.stack import BackendFailed


def exclusive(path: Path, *, seconds: float = 600.0) -> AbstractContextManager[None]:
    """Hold the lock file `path`, waiting for its holder at most `seconds`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = BackendFailed(f"Another process has held {path} for {seconds:.0f} seconds.")
    return file_lock(path, lambda _: refusal, seconds)
