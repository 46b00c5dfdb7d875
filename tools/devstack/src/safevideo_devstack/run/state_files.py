"""What lies where in `.run/`."""

import os
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Final

import msgspec

from safevideo_common.errors import StartupError
from safevideo_common.file_lock import file_lock
from safevideo_devstack.backends import process
from safevideo_devstack.backends.process import Process

MAX_LOG_BYTES: Final = 64 << 20
"""At a start a larger log takes the place of its one predecessor."""


@dataclass(frozen=True, slots=True)
class Paths:
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
            if log.stat().st_size > MAX_LOG_BYTES:
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


# `.run/env`: the addresses and keys of the running system, for `. .run/env` in any shell (contract, §15).


def write_env(path: Path, variables: Mapping[str, str]) -> None:
    """Write exports, quoted so that a shell takes each value to the letter. Its owner alone may read it."""
    write_private(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))


# The secrets of one system: made at its first run, kept in `.run/secrets.json` for the later ones.


SECRET_BYTES: Final = 32


class SecretStore:
    """Secrets by name. Readable by their owner alone; never printed, never in an environment but the services' own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secrets = _read_secrets(path)

    def get(self, name: str) -> str | None:
        """The secret, if it was made already."""
        return self._secrets.get(name)

    def made(self, name: str) -> str:
        """The secret; a new random one the first time, in URL-safe base64 as `ENCRYPTION_KEY` wants it."""
        if name not in self._secrets:
            self.put(name, urlsafe_b64encode(token_bytes(SECRET_BYTES)).decode())
        return self._secrets[name]

    def put(self, name: str, secret: str) -> None:
        """Keep what was made elsewhere. It is on disk when this returns."""
        self._secrets[name] = secret
        write_private(self._path, msgspec.json.format(msgspec.json.encode(self._secrets)).decode() + "\n")


def _read_secrets(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        raise StartupError(f"{path} is damaged. Type: make clean, which forgets all state") from None


# Who runs now: `.run/pids` for people and drills, and births beside it for the next run to clean up after this one.


GRACE_SECONDS: Final = 3.0


class PidRegistry:
    """Both files are replaced as a whole at each change, so a reader never sees half of one."""

    def __init__(self, pids: Path, births: Path) -> None:
        self._pids = pids
        self._births = births
        self._running: dict[str, Process] = {}

    def end_leftovers(self) -> list[str]:
        """End what a killed run has left, and return its names.

        A process is known by pid and birth: whoever got the pid since is left alone.
        """
        left = [each for each in _read_processes(self._births) if process.is_running(each)]
        process.stop(left, GRACE_SECONDS)
        return [each.name for each in left]

    def note(self, running: Process) -> None:
        """This process runs, in the place of an earlier one of its name."""
        self._running[running.name] = running
        self._write()

    def strike(self, name: str) -> None:
        """The process of that name has ended."""
        self._running.pop(name, None)
        self._write()

    def close(self) -> None:
        """Nothing runs any more."""
        for path in (self._pids, self._births):
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        # Births first: killed in between, the next run still finds every process.
        _replace(self._births, msgspec.json.format(msgspec.json.encode(list(self._running.values()))))
        _replace(self._pids, "".join(f"{each.name}={each.pid}\n" for each in self._running.values()).encode())


def _read_processes(births: Path) -> list[Process]:
    try:
        return msgspec.json.decode(births.read_bytes(), type=list[Process])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)


# One run a folder.


def single_instance(lock: Path) -> AbstractContextManager[None]:
    """Hold `lock` for the block. Raises `StartupError` naming the process that holds it."""

    def runs_already(pid: str) -> StartupError:
        pid = pid or "just starting"
        return StartupError(
            f"make run is running already in {lock.parent}: process {pid}.\n"
            f"End it with Ctrl-C in its terminal, or type: kill {pid}\n"
            f"For a second one beside it type: RUN_DIR=.run-2 PORT_OFFSET=1000 make run"
        )

    return file_lock(lock, runs_already)
