"""What was asked for: `make run STACK=local PORT_OFFSET=1000`."""

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safevideo_common.errors import StartupError

# The ports of the contract, §1, moved together by an offset.


HOST: Final = "127.0.0.1"
"""Nothing of a `make run` can be reached from another machine."""

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

MAX_OFFSET: Final = 59_000
"""The highest port of all, Redis's 6379, has to stay below 65536."""


def moved_ports(offset: int) -> dict[str, int]:
    """Each port by the name of who serves it."""
    return {name: port + offset for name, port in PORTS.items()}


def require_free(offset: int) -> None:
    """Raises `StartupError` that names every taken port, who has it, and what to type."""
    ports = moved_ports(offset)
    taken = [f"  {port} ({name}): {process_on_port(port)}" for name, port in ports.items() if not is_free(port)]
    if taken:
        other = (offset + 1000) % MAX_OFFSET
        what_to_type = f"End what has them, or move all ports: PORT_OFFSET={other} make run"
        raise StartupError("\n".join(["These ports are taken:", *taken, what_to_type]))


def is_free(port: int) -> bool:
    """Whether a server could listen on the port right now."""
    with socket.socket() as listener:
        # As asyncio does: connections that linger from the last run are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise StartupError(f"Port {port} may be used by root alone; choose another PORT_OFFSET.") from None
            return False
    return True


Stack = Literal["embedded", "local"]
_STACKS: Final[Mapping[str, Stack]] = {"embedded": "embedded", "local": "local"}


@dataclass(frozen=True, slots=True)
class Config:
    """`run_dir` holds all state; a second folder, with an offset, is a second system beside the first."""

    stack: Stack
    port_offset: int
    run_dir: Path


def read_config(environment: Mapping[str, str] = os.environ) -> Config:
    """The choices in `environment`. Raises `StartupError` that says what could be typed instead."""
    stack = environment.get("STACK") or "embedded"
    if stack not in _STACKS:
        raise StartupError(f"STACK={stack} is not one of {', '.join(_STACKS)}. Type: make run, or make run STACK=local")
    return Config(
        _STACKS[stack],
        _offset(environment.get("PORT_OFFSET") or "0"),
        Path(environment.get("RUN_DIR") or ".run").absolute(),
    )


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_OFFSET):
        raise StartupError(f"PORT_OFFSET must be a number from 0 to {MAX_OFFSET}. Type: PORT_OFFSET=1000 make run")
    return int(text)


# Which process listens on a port, as far as the operating system tells this user (Linux: /proc).


_LISTENING: Final = "0A"  # TCP_LISTEN, as in the column `st` of proc_net_tcp
_MAX_COMMAND_LENGTH: Final = 100


def process_on_port(port: int, proc: Path = Path("/proc")) -> str:
    """For people: `process 123 (python -m http.server)`, or that it cannot be told."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    for process in proc.glob("[0-9]*"):
        if sockets & set(_open_files(process)):
            return f"process {process.name} ({_command(process)})"
    return "a process that this user cannot see" if sockets else "a process that cannot be told"


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
    return "its command is not known"
