"""What lies where in `.run/`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LARGE_LOG_BYTES: Final = 64 << 20
"""At a start a larger log takes the place of its one predecessor."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one system. Secrets and logs are shared by its stacks; each stack has its own data."""

    folder: Path
    stack: str

    @property
    def lock(self) -> Path:
        """Held by the run that has this folder."""
        return self.folder / "lock"

    @property
    def env(self) -> Path:
        """To be sourced by a shell."""
        return self.folder / "env"

    @property
    def pids(self) -> Path:
        """A line `name=pid` for each process."""
        return self.folder / "pids"

    @property
    def births(self) -> Path:
        """The same processes, each with its birth."""
        return self.folder / "processes.json"

    @property
    def secrets(self) -> Path:
        """Made at the first run."""
        return self.folder / "secrets.json"

    @property
    def logs(self) -> Path:
        """Text logs of all services: `LOG_DIR`."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """What this stack keeps, and the list of the processes that it started."""
        return self.folder / self.stack

    def make(self) -> None:
        """Create the folders that the rest takes for granted, closed to other users."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.logs, self.data):
            folder.mkdir(mode=0o700, exist_ok=True)

    def set_large_logs_aside(self) -> None:
        """Bound what the logs take, before anybody writes to them."""
        for log in [*self.logs.glob("*.log"), *self.data.glob("*.log")]:
            if log.stat().st_size > LARGE_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))


def write_private(path: Path, content: str) -> None:
    """Replace `path` at once by a file that its owner alone can read: a crash leaves the old one or the new one."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
