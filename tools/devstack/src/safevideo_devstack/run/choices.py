"""What was asked for: `make run STACK=local PORT_OFFSET=1000`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safevideo_common.errors import StartupError
from safevideo_devstack.run.ports import LARGEST_OFFSET

Stack = Literal["embedded", "local"]
_STACKS: Final[Mapping[str, Stack]] = {"embedded": "embedded", "local": "local"}


@dataclass(frozen=True, slots=True)
class Choices:
    """`run_dir` holds all state; a second folder, with an offset, is a second system beside the first."""

    stack: Stack
    port_offset: int
    run_dir: Path


def read_choices(environment: Mapping[str, str] = os.environ) -> Choices:
    """The choices in `environment`. Raises `StartupError` that says what could be typed instead."""
    stack = environment.get("STACK") or "embedded"
    if stack not in _STACKS:
        raise StartupError(f"STACK={stack} is not one of {', '.join(_STACKS)}. Type: make run, or make run STACK=local")
    return Choices(
        _STACKS[stack],
        _offset(environment.get("PORT_OFFSET") or "0"),
        Path(environment.get("RUN_DIR") or ".run").absolute(),
    )


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_OFFSET):
        raise StartupError(f"PORT_OFFSET must be a number from 0 to {LARGEST_OFFSET}. Type: PORT_OFFSET=1000 make run")
    return int(text)
