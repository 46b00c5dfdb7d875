"""The HTTP server of an app: it keeps `ServerLimits`, and finishes all open requests when it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from aiohttp import web

from safevideo_common.web.correlation import Correlation
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.http_protocol import (
    BufferedPost,
    ConnectionGate,
    HttpConnection,
    OnMalformed,
    ServerLimits,
    within_limits,
)

LIMITS: Final = web.AppKey("limits", ServerLimits)
"""The limits of an app. Without them the defaults hold."""
BUFFERED_POST: Final = web.AppKey("buffered_post", BufferedPost)
ON_MALFORMED: Final[web.AppKey[OnMalformed]] = web.AppKey("on_malformed")
"""Reports the requests that are refused before they reach a handler."""

BACKLOG: Final = 1024
HEAD_SECONDS: Final = 0.5
"""How long a stop waits for the first head of a connection that is open already, or for a head that has begun."""
POLL_SECONDS: Final = 0.01


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, *, shutdown_seconds: float) -> AsyncIterator[int]:
    """Serve `app` and yield the port, which is a free one when `port` is 0.

    On leaving, the server takes no new connection. Open requests get `shutdown_seconds`, also those whose body is still
    on its way. Raises `OSError` when the port is taken.
    """
    loop = asyncio.get_running_loop()
    gate = ConnectionGate(app.get(LIMITS, ServerLimits()), app.get(ON_MALFORMED, _ignore))
    runner = web.AppRunner(app, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        server.request_handler = within_limits(server.request_handler)
        connection = partial(HttpConnection, gate, server, app.get(BUFFERED_POST))
        reuse_port = gate.limits.reuse_port or None
        listener = await loop.create_server(connection, host, port, backlog=BACKLOG, reuse_port=reuse_port)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            if DRAIN in app:
                app[DRAIN].start()
            listener.close()
            await _finish_requests(gate, shutdown_seconds)
    finally:
        await runner.cleanup()


def _ignore(_peer: str | None, _ids: Correlation) -> None:
    """Report nothing: an app without `base_app` has no log and no metrics."""


async def _finish_requests(gate: ConnectionGate, seconds: float) -> None:
    """Wait until no request is open, since aiohttp drops what arrives once it closes; then close the connections."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        while (passed := loop.time() - began) < seconds and any(  # noqa: ASYNC110 - no single event ends all requests
            not each.is_waiting or (each.expects_head and passed < HEAD_SECONDS) for each in gate.connections
        ):
            await asyncio.sleep(POLL_SECONDS)
    finally:
        for connection in list(gate.connections):
            connection.stop()
