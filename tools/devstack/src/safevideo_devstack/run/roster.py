"""Who runs now: `.run/pids` for people and drills, and births beside it for the next run to clean up after this one."""

from pathlib import Path
from typing import Final

import msgspec

from safevideo_devstack.backends import process
from safevideo_devstack.backends.process import Process

GRACE_SECONDS: Final = 3.0


class Roster:
    """Both files are replaced as a whole at each change, so a reader never sees half of one."""

    def __init__(self, pids: Path, births: Path) -> None:
        self._pids = pids
        self._births = births
        self._running: dict[str, Process] = {}

    def end_leftovers(self) -> list[str]:
        """End what a killed run has left, and return its names.

        A process is known by pid and birth: whoever got the pid since is left alone.
        """
        left = [each for each in _read(self._births) if process.is_running(each)]
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


def _read(births: Path) -> list[Process]:
    try:
        return msgspec.json.decode(births.read_bytes(), type=list[Process])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
