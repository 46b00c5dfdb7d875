"""Serving an app: the HTTP server's bounds, and a stop that answers whoever has asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.hdrs import EXPECT
from aiohttp.typedefs import Handler
from typing_extensions import override

from safevideo_common.web.arrival import Arrival
from safevideo_common.web.bounds import BOUNDS, ServerBounds
from safevideo_common.web.connection import Connection
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.whole import WholePost
from safevideo_common.web.whole_connection import WholeConnection

MAX_LINE_BYTES: Final = 8 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
"""Of one header: enough for an oversized id to reach the handler that names it."""

LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and dropped, so that the sender gets to see the answer."""

BACKLOG: Final = 1024

OPENED_SECONDS: Final = 0.5
"""How long a stop waits for the first head of a connection that is open already, or for one that was begun."""

_LOOK_SECONDS: Final = 0.01


class HotRoute(NamedTuple):
    """One path that is answered before anything is routed."""

    method: str
    path: str
    answer: Handler

    def before(self, routed: Handler) -> Handler:
        """The handler of all requests: this one's own, and `routed` for the others."""

        async def handle(request: web.Request) -> web.StreamResponse:
            is_hot = request.path == self.path and request.method == self.method
            if is_hot and EXPECT not in request.headers:  # answering `100 Continue` is the router's
                return await self.answer(request)
            return await routed(request)

        return handle


HOT_ROUTE: Final = web.AppKey("hot_route", HotRoute)
WHOLE_POST: Final = web.AppKey("whole_post", WholePost)


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, *, shutdown_seconds: float) -> AsyncIterator[int]:
    """Serve `app` within `app[BOUNDS]` and give the port, which is a free one when `port` is 0.

    On leaving, no new connection is taken and open requests get `shutdown_seconds`, also those whose body is still on
    its way. Raises `OSError` when the port is taken.
    """
    bounds = app.get(BOUNDS, ServerBounds())
    runner = _Runner(
        app,
        access_log=None,
        handle_signals=False,
        auto_decompress=False,  # a signature covers the bytes as sent; and no bomb is ever unpacked
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        lingering_time=LINGER_SECONDS,
        keepalive_timeout=bounds.idle_seconds,
        shutdown_timeout=shutdown_seconds,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=bounds.reuse_port or None).start()
        yield runner.addresses[0][1]
    finally:
        try:
            await _answer_the_rest(runner, shutdown_seconds)
        finally:
            await runner.cleanup()


async def _answer_the_rest(runner: web.AppRunner, seconds: float) -> None:
    """Take no more connections and wait until no request is open, since aiohttp drops what arrives once it closes."""
    app = runner.app
    if DRAIN in app:
        app[DRAIN].begin()
    for site in list(runner.sites):
        await site.stop()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while (passed := loop.time() - begun) < seconds and _open_requests(  # noqa: ASYNC110 - aiohttp signals no such end
        runner, passed < OPENED_SECONDS
    ):
        await asyncio.sleep(_LOOK_SECONDS)


def _open_requests(runner: web.AppRunner, count_heads: bool) -> bool:
    connections = runner.server.connections if runner.server is not None else ()
    return any(
        each.is_busy or (count_heads and each.awaits_head) for each in connections if isinstance(each, Connection)
    )


class _Server(web.Server):
    bounds: ServerBounds
    whole: WholePost | None

    @override
    def __call__(self) -> web.RequestHandler:
        if self.bounds.admits is None:
            return self._connection()
        return Arrival(self.bounds, self._connection)  # type: ignore[return-value]  # what takes it wants a protocol

    def _connection(self) -> web.RequestHandler:
        if self.whole is not None:
            return WholeConnection(self, self.bounds, self.whole, self._loop, **self._kwargs)
        return Connection(self, self.bounds, self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    @override
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp has no factory for its protocol
        assert isinstance(server, _Server)
        server.bounds = self.app.get(BOUNDS, ServerBounds())
        server.whole = self.app.get(WHOLE_POST)
        if hot := self.app.get(HOT_ROUTE):
            routed: Handler = server.request_handler  # what an application's runner serves is always a `web.Request`
            server.request_handler = hot.before(routed)  # type: ignore[assignment]  # and aiohttp says `BaseRequest`
        return server
