"""The configuration of a run: `make run STACK=local PORT_OFFSET=1000`, and the ports that follow from it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safevideo_common.errors import StartupError
from safevideo_devstack.backends.ports import is_free

HOST: Final = "127.0.0.1"
"""No other machine can reach anything of a `make run`."""

SIMULATOR: Final = "simulator"
REDIS: Final = "redis"
PORTS: Final[Mapping[str, int]] = {
    "gateway": 3000,
    "webhook-ingest": 3001,
    "kyc-worker": 3002,
    "sync-worker": 3003,
    SIMULATOR: 3900,
    REDIS: 6379,
}
"""The ports of the contract, §1."""

MAX_OFFSET: Final = 59_000
"""The highest port of all, Redis's 6379, has to stay below 65536."""

Stack = Literal["embedded", "local"]
_STACKS: Final[Mapping[str, Stack]] = {"embedded": "embedded", "local": "local"}

_LISTENING: Final = "0A"  # TCP_LISTEN, as in the column `st` of proc_net_tcp
_MAX_COMMAND_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class Config:
    """The choices of a run. `run_dir` holds all state: a second folder, with an offset, is a second system."""

    stack: Stack
    port_offset: int
    run_dir: Path


def read_config(environment: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration in `environment`. Raises `StartupError` with what to type instead."""
    stack = environment.get("STACK") or "embedded"
    if stack not in _STACKS:
        raise StartupError(f"STACK={stack} is not one of {', '.join(_STACKS)}. Type: make run, or make run STACK=local")
    return Config(
        _STACKS[stack],
        _offset(environment.get("PORT_OFFSET") or "0"),
        Path(environment.get("RUN_DIR") or ".run").absolute(),
    )


def moved_ports(offset: int) -> dict[str, int]:
    """Return each port, moved by `offset`, by the name of its server."""
    return {name: port + offset for name, port in PORTS.items()}


def require_free(offset: int) -> None:
    """Raise `StartupError` that names every taken port, its process, and what to type."""
    ports = moved_ports(offset)
    occupied = [f"  {port} ({name}): {process_on_port(port)}" for name, port in ports.items() if not is_free(port)]
    if occupied:
        other = (offset + 1000) % MAX_OFFSET
        what_to_type = f"End what has them, or move all ports: PORT_OFFSET={other} make run"
        raise StartupError("\n".join(["These ports are taken:", *occupied, what_to_type]))


def process_on_port(port: int, proc: Path = Path("/proc")) -> str:
    """Describe the process that listens on a port, as far as Linux shows it to this user."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    for process in proc.glob("[0-9]*"):
        if sockets & set(_open_files(process)):
            return f"process {process.name} ({_command(process)})"
    return "a process that this user cannot see" if sockets else "an unknown process"


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_OFFSET):
        raise StartupError(f"PORT_OFFSET must be a number from 0 to {MAX_OFFSET}. Type: PORT_OFFSET=1000 make run")
    return int(text)


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield inode


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):  # another user's, or it has ended meanwhile
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(descriptor.readlink())


def _command(process: Path) -> str:
    with suppress(OSError):
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return "".join(character if character.isprintable() else "?" for character in words)[:_MAX_COMMAND_LENGTH]
    return "unknown command"
