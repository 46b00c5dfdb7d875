"""One run a folder."""

from contextlib import AbstractContextManager
from pathlib import Path

from safevideo_common.errors import StartupError
from safevideo_common.file_lock import file_lock


def sole_run(lock: Path) -> AbstractContextManager[None]:
    """Hold `lock` for the block. Raises `StartupError` naming the process that holds it."""

    def runs_already(pid: str) -> StartupError:
        pid = pid or "just starting"
        return StartupError(
            f"make run is running already in {lock.parent}: process {pid}.\n"
            f"End it with Ctrl-C in its terminal, or type: kill {pid}\n"
            f"For a second one beside it type: RUN_DIR=.run-2 PORT_OFFSET=1000 make run"
        )

    return file_lock(lock, runs_already)
