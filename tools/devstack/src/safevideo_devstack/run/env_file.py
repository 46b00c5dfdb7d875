"""`.run/env`: the addresses and keys of the running system, for `. .run/env` in any shell (contract, §15)."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from safevideo_devstack.run.place import write_private


def write_env(path: Path, variables: Mapping[str, str]) -> None:
    """Write exports, quoted so that a shell takes each value to the letter. Its owner alone may read it."""
    write_private(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
