"""How much one process lets itself be used: the bounds of its HTTP server, against senders who are slow or many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web


def _uncounted(_reason: str) -> None:
    """For a service that does not count them."""


@dataclass(frozen=True, slots=True)
class ServerBounds:
    """Set on an app as `app[BOUNDS]`; without it these defaults hold."""

    head_seconds: float = 10.0
    """From the first byte of a request (or the opening of a connection) to the end of its head. Never prolonged."""
    idle_seconds: float = 75.0
    """How long a connection is kept open for a next request. Longer than the 60 s of nginx and most balancers, so that
    it is they who close."""
    unread_seconds: float = 10.0
    """How long a peer may leave an answer unread once all buffers are full."""
    max_connections: int = 2048
    """When so many are open, the ones that wait longest for a request give way to new ones."""
    reuse_port: bool = False
    """Whether other processes listen on the same port; the kernel shares new connections out among them."""
    closed: Callable[[str], None] = _uncounted
    """Called with a reason (`slow_head`, `unread`, `crowded_out`, `turned_away`, `suspect`) for each one ended."""
    admits: Callable[[str | None], bool] | None = None
    """Asked about the peer's address of each new connection, where set. One that is not admitted is closed unread."""


BOUNDS: Final = web.AppKey("bounds", ServerBounds)
