"""Stacks up and down."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from safevideo_devstack.backends import docker, process, state
from safevideo_devstack.backends.choice import candidates, start_first
from safevideo_devstack.backends.lock import exclusive
from safevideo_devstack.backends.running import RunningBackends
from safevideo_devstack.backends.stack import Asked, Backends, Options, Ports, Say

GRACE_SECONDS: Final = 8.0
"""What the servers get to end by themselves. Three brokers that end at once never do: they lose their quorum."""


def silent(_line: str) -> None:
    """Say nothing about slow work."""


def up(
    stack: Asked = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = silent,
) -> RunningBackends:
    """Bring a stack up in `folder` and return when all of it answers; return what is up there already.

    What is up there and is not what is asked for now, or is not whole, is stopped first. The data stays.
    Raises `BackendUnavailable` when it cannot be had here and `BackendFailed` when it does not come up; nothing of
    what was started is left then.
    """
    folder, options = folder.absolute(), options or Options()
    with exclusive(folder / state.LOCK):
        if found := _up_already(folder, stack, options):
            return RunningBackends.of(found, folder)
        _take_down(folder, GRACE_SECONDS)
        try:
            backends = start_first(candidates(stack, require_real=require_real), folder, options, say)
        except BaseException:
            _take_down(folder, 0.0)
            raise
        state.complete(folder, backends)
        return RunningBackends.of(backends, folder)


def down(folder: Path, *, forget: bool = False, grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop what was started in `folder`, by whomever. `forget` removes the data as well."""
    folder = folder.absolute()
    if not folder.exists():
        return
    with exclusive(folder / state.LOCK):
        _take_down(folder, grace_seconds)
        if forget:
            _empty(folder)


@contextmanager
def running(
    stack: Asked = "auto",
    *,
    folder: Path,
    options: Options | None = None,
    require_real: bool = False,
    say: Say = silent,
) -> Iterator[RunningBackends]:
    """A stack that lasts as long as the block, and its data likewise. Raises what `up` raises."""
    try:
        yield up(stack, folder=folder, options=options, require_real=require_real, say=say)
    finally:
        down(folder, forget=True, grace_seconds=0.0)


def status(folder: Path) -> dict[str, bool]:
    """Whether each process and container that was started in `folder` still runs, by name or id."""
    if not (found := state.read(folder)):
        return {}
    return {each.name: process.is_running(each) for each in found.processes} | docker.running(found.containers)


def sweep(folder: Path, prefix: str) -> None:
    """Remove this user's folders of that prefix whose owners died before they could: their servers and their data."""
    for left in folder.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another run is sweeping it
            mine = left.stat().st_uid == os.geteuid()
            found = state.read(left) if mine else None
            if found and not process.is_running(found.owner):
                down(left, forget=True, grace_seconds=0.0)
                shutil.rmtree(left, ignore_errors=True)


def _up_already(folder: Path, stack: Asked, options: Options) -> Backends | None:
    found, servers = state.read(folder), status(folder)
    if not found or not servers or not all(servers.values()):
        return None
    return found.backends if stack in ("auto", found.stack) and _answers_to(options, found.options) else None


def _answers_to(asked: Options, found: Options) -> bool:
    ports = (getattr(asked.ports, each.name) or getattr(found.ports, each.name) for each in fields(Ports))
    return replace(asked, ports=Ports(*ports)) == found


def _take_down(folder: Path, grace_seconds: float) -> None:
    if found := state.read(folder):
        process.stop(found.processes, grace_seconds)
        if found.containers:
            docker.remove(found.containers)
        state.forget(folder)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != state.LOCK:  # somebody may be waiting for it
            entry.unlink()
