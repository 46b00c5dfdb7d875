"""`make clean`: removes all state of `make run`. Standard library only: there may be no virtual environment."""

import fcntl
import shutil
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Remove `folder`. Exits with 1 while a run has it."""
    lock = folder / "lock"
    if not folder.exists():
        return
    if not lock.exists():
        sys.exit(f"{folder} was not made by make run; it is left alone.")
    with lock.open("r+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"make run has {folder}: process {file.read()}. End it first.")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
