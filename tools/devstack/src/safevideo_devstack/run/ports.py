"""The ports of the contract, §1, moved together by an offset."""

import errno
import socket
from collections.abc import Mapping
from typing import Final

from safevideo_common.errors import StartupError
from safevideo_devstack.run.port_holders import holder_of

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

LARGEST_OFFSET: Final = 59_000
"""The highest port of all, Redis's 6379, has to stay below 65536."""


def moved_ports(offset: int) -> dict[str, int]:
    """Each port by the name of who serves it."""
    return {name: port + offset for name, port in PORTS.items()}


def require_free(offset: int) -> None:
    """Raises `StartupError` that names every taken port, who has it, and what to type."""
    ports = moved_ports(offset)
    taken = [f"  {port} ({name}): {holder_of(port)}" for name, port in ports.items() if not is_free(port)]
    if taken:
        other = (offset + 1000) % LARGEST_OFFSET
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
