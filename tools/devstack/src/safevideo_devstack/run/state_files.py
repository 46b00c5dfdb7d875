"""The files of `.run/`: paths, shell variables, secrets, processes, and the lock of the run that has the folder."""

import os
import shlex
import sys
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
"""At a start a larger log replaces its one predecessor."""

SECRET_BYTES: Final = 32
GRACE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Paths:
    """The folder of one system. Its stacks share secrets and logs; each stack has its own data."""

    folder: Path
    stack: str

    @property
    def lock(self) -> Path:
        """The lock file of the run that has this folder."""
        return self.folder / "lock"

    @property
    def env(self) -> Path:
        """The variables for a shell."""
        return self.folder / "env"

    @property
    def pids(self) -> Path:
        """A line `name=pid` for each process."""
        return self.folder / "pids"

    @property
    def processes(self) -> Path:
        """The same processes, each with its start time."""
        return self.folder / "processes.json"

    @property
    def secrets(self) -> Path:
        """The secrets, made at the first run."""
        return self.folder / "secrets.json"

    @property
    def logs(self) -> Path:
        """Text logs of all services: `LOG_DIR`."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """The data of this stack, and the output of its processes."""
        return self.folder / self.stack

    @property
    def documents(self) -> Path:
        """The encrypted documents of this stack: `UPLOAD_DIR`."""
        return self.data / "documents"

    def make(self) -> None:
        """Create the folders, closed to other users."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.logs, self.data, self.documents):
            folder.mkdir(mode=0o700, exist_ok=True)

    def rotate_large_logs(self) -> None:
        """Bound the size of the logs, before anybody writes to them."""
        for path in [*self.logs.glob("*.log"), *self.data.glob("*.log")]:
            if path.stat().st_size > MAX_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))


def write_env(path: Path, variables: Mapping[str, str]) -> None:
    """Write the variables and the folder of our commands for `. .run/env` (contract, §15).

    A shell takes each value to the letter. Only the owner may read the file.
    """
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    commands = shlex.quote(str(Path(sys.executable).parent))
    _write_private(path, "".join([*exports, f'export PATH={commands}"${{PATH:+:$PATH}}"\n']))


class SecretStore:
    """Secrets by name, made once. Only their owner can read them; nothing prints them.

    They are in no environment but that of the services, and in the file `env`. A secret in `external` wins over
    the stored one and is not stored.
    """

    def __init__(self, path: Path, external: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._secrets = _read_secrets(path)
        self._external = {name: secret for name, secret in (external or {}).items() if secret}

    def differing(self) -> list[str]:
        """Return the names of the external secrets that differ from the stored ones."""
        return [name for name, secret in self._external.items() if self._secrets.get(name) not in {None, secret}]

    def get(self, name: str) -> str | None:
        """Return the secret, if there is one."""
        return self._secrets.get(name)

    def get_or_create(self, name: str) -> str:
        """Return the secret; a new random one the first time, in URL-safe base64 as `ENCRYPTION_KEY` needs it."""
        if name in self._external:
            return self._external[name]
        if name not in self._secrets:
            self.put(name, urlsafe_b64encode(token_bytes(SECRET_BYTES)).decode())
        return self._secrets[name]

    def put(self, name: str, secret: str) -> None:
        """Store a secret. It is on disk when this returns."""
        self._secrets[name] = secret
        _write_private(self._path, msgspec.json.format(msgspec.json.encode(self._secrets)).decode() + "\n")


class PidRegistry:
    """The running processes: `.run/pids` for people, and their start times for the next run to stop orphans.

    Both files are replaced as a whole at each change, so a reader never sees half of one.
    """

    def __init__(self, pids: Path, processes: Path) -> None:
        self._pids = pids
        self._processes = processes
        self._running: dict[str, Process] = {}

    def stop_orphans(self) -> list[str]:
        """Stop the processes of a killed run, and return their names.

        Another process that got such a pid has another start time, and is left alone.
        """
        orphans = [each for each in _read_processes(self._processes) if process.is_running(each)]
        process.stop(orphans, GRACE_SECONDS)
        return [each.name for each in orphans]

    def add(self, running: Process) -> None:
        """Add a process; it replaces an earlier one of its name."""
        self._running[running.name] = running
        self._write()

    def remove(self, name: str) -> None:
        """Remove the process of that name, which has ended."""
        self._running.pop(name, None)
        self._write()

    def close(self) -> None:
        """Remove both files: nothing runs any more."""
        for path in (self._pids, self._processes):
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        # Start times first: killed in between, the next run still finds every process.
        _replace(self._processes, msgspec.json.format(msgspec.json.encode(list(self._running.values()))))
        _replace(self._pids, "".join(f"{each.name}={each.pid}\n" for each in self._running.values()).encode())


def single_instance(lock: Path) -> AbstractContextManager[None]:
    """Hold `lock` for the block. Raises `StartupError` naming the process that holds it."""

    def refusal(pid: str) -> StartupError:
        pid = pid or "just starting"
        return StartupError(
            f"make run is running already in {lock.parent}: process {pid}.\n"
            f"End it with Ctrl-C in its terminal, or type: kill {pid}\n"
            f"For a second one beside it type: RUN_DIR=.run-2 PORT_OFFSET=1000 make run"
        )

    return file_lock(lock, refusal)


def _read_secrets(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        raise StartupError(f"{path} is damaged. Type: make clean, which removes all state") from None


def _read_processes(path: Path) -> list[Process]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Process])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def _write_private(path: Path, content: str) -> None:
    """Replace `path` at once by a file that only its owner can read: a crash leaves the old one or the new one."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
