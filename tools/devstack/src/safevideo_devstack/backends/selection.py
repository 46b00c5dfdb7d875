"""Which stack it will be: the first that can be had, in the order given, docker, local, embedded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from safevideo_devstack.backends.docker import start_docker
from safevideo_devstack.backends.external import start_given
from safevideo_devstack.backends.processes import start_embedded, start_local
from safevideo_devstack.backends.stack import (
    Asked,
    Backends,
    BackendUnavailable,
    Options,
    Say,
    Stack,
)

Starter = Callable[[Path, Options, Say], Backends]

STARTERS: Final[dict[Stack, Starter]] = {
    "given": start_given,
    "docker": start_docker,
    "local": start_local,
    "embedded": start_embedded,
}


def named(stack: str) -> Asked:
    """The stack of that name, or `auto`. Raises `BackendUnavailable`."""
    names: dict[str, Asked] = {"auto": "auto", **{known: known for known in STARTERS}}
    if stack not in names:
        raise BackendUnavailable(f"There is no stack {stack!r}; choose one of {', '.join(names)}.")
    return names[stack]


def candidates(asked: Asked, *, require_real: bool) -> list[Stack]:
    """What to try, in order. `require_real` leaves out the embedded stack, unless it was asked for by name."""
    if asked != "auto":
        return [asked]
    return [stack for stack in STARTERS if not (require_real and stack == "embedded")]


def start_first(stacks: Sequence[Stack], folder: Path, options: Options, say: Say) -> Backends:
    """Start the first stack that is available here.

    Raises `BackendUnavailable` with every reason when none is. One that is available and fails is not passed over:
    `BackendFailed` goes through, since a broken Kafka must not look like a machine without Kafka.
    """
    reasons: list[str] = []
    for stack in stacks:
        try:
            return replace(STARTERS[stack](folder, options, say), skipped=tuple(reasons))
        except BackendUnavailable as error:
            reasons.append(f"{stack}: {error}")
    raise BackendUnavailable("No backends can be had. " + "; ".join(reasons))
