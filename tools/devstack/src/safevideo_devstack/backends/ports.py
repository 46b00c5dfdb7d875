"""Free ports on the loopback interface, of which no two processes of this machine get the same."""

import errno
import fcntl
import os
import random
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, islice

from safevideo_devstack.backends.stack import BackendFailed, Options, Ports

# Below the range from which the kernel takes a client's own port. A client that keeps connecting to a dead server's
# port inside that range ends up connected to itself, and the server cannot bind again.
CANDIDATES = range(20_000, 32_000)

_RESERVED: set[int] = set()
"""Ports of this process, which could lock the same byte again."""


def allocate_ports(options: Options) -> Ports:
    """Replace every 0 by a free port. Raises `BackendFailed` when another process has a port of `options`."""
    ports = options.ports
    for port in chain(ports.kafka, ports.controllers, (ports.mysql, ports.redis)):
        if port and not is_free(port):
            raise BackendFailed(f"Port {port} is taken by another process; end that one or choose another port.")
    free = _free_ports()
    return replace(
        ports,
        kafka=ports.kafka or tuple(islice(free, options.brokers)),
        controllers=ports.controllers or tuple(islice(free, options.brokers)),
        mysql=ports.mysql or next(free),
        redis=ports.redis or next(free),
    )


def free_port() -> int:
    """Return a port that no other process of ours gets; nothing listens there yet."""
    return next(_free_ports())


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port right now. Raises `BackendFailed` for a port of root alone."""
    with socket.socket() as listener:
        # As servers do: connections that linger from the last run are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise BackendFailed(f"Port {port} may be used by root alone; choose another port.") from None
            return False
    return True


def reserve(ports: Iterable[int]) -> bool:
    """Reserve `ports` for as long as this process lives; return whether they are now ours.

    A server binds its port only seconds after it was chosen.
    """
    return all(map(_reserve, ports))


def _free_ports() -> Iterator[int]:
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if is_free(port) and _reserve(port):
            yield port


def _reserve(port: int) -> bool:
    if port in _RESERVED:
        return False
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)  # byte n of the file stands for port n
    except OSError:
        return False
    _RESERVED.add(port)
    return True


@cache
def _reservations() -> int:
    # Open until the process ends: to close it gives up all locks. A file object would warn that nobody has closed it.
    return os.open(f"/tmp/safevideo-ports-{os.geteuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
