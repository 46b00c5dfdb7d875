"""What runs in a folder, written down so that another process can find it after a crash."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from safevideo_devstack.backends.process import Process, this_process
from safevideo_devstack.backends.stack import Backends, Options, Stack

FILE = "state.json"
LOCK = "lock"
"""Whoever starts or stops something in a folder holds the file of this name there."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that was started, from the first moment on; `backends` follows once all of it answers."""

    owner: Process
    """Who asked for it. Tethered servers do not outlive it."""
    stack: Stack
    options: Options
    """With the ports that were allotted."""
    processes: tuple[Process, ...] = ()
    containers: tuple[str, ...] = ()
    backends: Backends | None = None


def read(folder: Path) -> State | None:
    """None when nothing was started here, or what was has been stopped."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=State)
    except FileNotFoundError:
        return None


def begin(folder: Path, stack: Stack, options: Options) -> None:
    """Say that this process is about to start `stack`."""
    _write(folder, State(this_process(), stack, options))


def add_process(folder: Path, process: Process) -> None:
    """Note a process, in the place of an earlier one of that name. Only the owner of the folder's lock may do so."""
    state = recorded(folder)
    others = (other for other in state.processes if other.name != process.name)
    _write(folder, replace(state, processes=(*others, process)))


def add_container(folder: Path, container: str) -> None:
    """Note a container by its id."""
    state = recorded(folder)
    _write(folder, replace(state, containers=(*state.containers, container)))


def complete(folder: Path, backends: Backends) -> None:
    """Say that everything answers."""
    _write(folder, replace(recorded(folder), backends=backends))


def recorded(folder: Path) -> State:
    """The state, where there must be one. Raises `LookupError`."""
    if (state := read(folder)) is None:
        raise LookupError(f"No backends were started in {folder}.")
    return state


def forget(folder: Path) -> None:
    """Say that nothing runs here any more."""
    (folder / FILE).unlink(missing_ok=True)


def _write(folder: Path, state: State) -> None:
    # Readable by its owner alone, since the URLs hold passwords, and replaced at once: a crash leaves a whole file.
    draft = folder / f"{FILE}.new"
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    draft.replace(folder / FILE)
