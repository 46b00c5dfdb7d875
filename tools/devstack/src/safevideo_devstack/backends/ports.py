"""Free ports on the loopback interface."""

import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from safevideo_devstack.backends.stack import BackendFailed, Options, Ports

# Below the range from which the kernel takes a client's own port. A client that keeps knocking at a dead server's port
# inside that range ends up connected to itself, and the server cannot bind again.
CANDIDATES = range(20_000, 32_000)


def allot(options: Options) -> Ports:
    """Replace every 0 by a free port. Raises `BackendFailed` when a port that was asked for is taken."""
    asked = options.ports
    for port in chain(asked.kafka, asked.controllers, (asked.mysql, asked.redis)):
        if port and not _is_free(port):
            raise BackendFailed(f"Port {port} is taken by another process; end that one or ask for another port.")
    free = _free_ports()
    return replace(
        asked,
        kafka=asked.kafka or tuple(islice(free, options.brokers)),
        controllers=asked.controllers or tuple(islice(free, options.brokers)),
        mysql=asked.mysql or next(free),
        redis=asked.redis or next(free),
    )


def _free_ports() -> Iterator[int]:
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
