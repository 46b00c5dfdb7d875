"""A new connection, before anything is made for it."""

import asyncio
from collections.abc import Callable

from typing_extensions import override

from safevideo_common.web.bounds import ServerBounds


class Arrival(asyncio.Protocol):
    """Asks the bounds about the peer: `connection` then serves it, or it is closed unread.

    What aiohttp makes for a connection costs several times as much as taking it and closing it.
    """

    __slots__ = ("_bounds", "_connection")

    def __init__(self, bounds: ServerBounds, connection: Callable[[], asyncio.Protocol]) -> None:
        self._bounds = bounds
        self._connection = connection

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._bounds.admits is None or self._bounds.admits(_address(transport)):
            connection = self._connection()
            transport.set_protocol(connection)
            connection.connection_made(transport)
        else:
            self._bounds.closed("suspect")
            transport.close()


def _address(transport: asyncio.BaseTransport) -> str | None:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None
