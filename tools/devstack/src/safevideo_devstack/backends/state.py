"""The record of what runs in a folder, so that another process can find it after a crash."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from safevideo_devstack.backends.process import Process, this_process
from safevideo_devstack.backends.stack import Backends, Options, Stack

FILE = "state.json"
LOCK = "lock"
"""The file in a folder that a process locks while it starts or stops something there."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that was started, from the beginning on; `backends` follows once all of it answers."""

    owner: Process
    """The process that started it. With `Options.die_with_parent` the servers end with it."""
    stack: Stack
    options: Options
    """The options, with the ports that were allocated."""
    processes: tuple[Process, ...] = ()
    containers: tuple[str, ...] = ()
    backends: Backends | None = None


def find(folder: Path) -> State | None:
    """Return the state; None when nothing was started here, or it has been stopped."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):  # the file of another release cannot be read
        return None


def get(folder: Path) -> State:
    """Return the state, where there must be one. Raises `LookupError`."""
    if (state := find(folder)) is None:
        raise LookupError(f"No backends were started in {folder}.")
    return state


def begin(folder: Path, stack: Stack, options: Options) -> None:
    """Record that this process is about to start `stack`."""
    _write(folder, State(this_process(), stack, options))


def add_process(folder: Path, process: Process) -> None:
    """Record a process; it replaces an earlier one of that name. Only the owner of the folder's lock may do so."""
    state = get(folder)
    others = (other for other in state.processes if other.name != process.name)
    _write(folder, replace(state, processes=(*others, process)))


def add_container(folder: Path, container: str) -> None:
    """Record a container by its id."""
    state = get(folder)
    _write(folder, replace(state, containers=(*state.containers, container)))


def complete(folder: Path, backends: Backends) -> None:
    """Record that everything answers."""
    _write(folder, replace(get(folder), backends=backends))


def remove(folder: Path) -> None:
    """Record that nothing runs here any more."""
    (folder / FILE).unlink(missing_ok=True)


def _write(folder: Path, state: State) -> None:
    # Readable by its owner alone, since the URLs hold passwords, and replaced at once: a crash leaves a whole file.
    draft = folder / f"{FILE}.new"
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    draft.replace(folder / FILE)
