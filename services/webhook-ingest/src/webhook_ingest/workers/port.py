"""One port for several processes: taken once, listened on by each."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Keep the port, a free one when it is 0, for those who listen on it with SO_REUSEPORT. Raises `OSError`.

    The kernel would let a second parent of the same user listen beside the first and take half of the webhooks, so it
    is made sure first that nobody listens. The socket that is kept does not listen: no connection gets to it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    with socket.socket(family, kind, protocol) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(address)
        yield kept.getsockname()[1]
