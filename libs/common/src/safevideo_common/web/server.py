"""Serving an app: the HTTP server's bounds, and JSON also where the HTTP parser itself refuses a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler
from typing_extensions import override

from safevideo_common.errors import InternalError, PayloadTooLarge, SafeVideoError, ValidationFailed
from safevideo_common.web.correlation import REQUEST_ID_HEADER, correlate
from safevideo_common.web.envelope import failure

MAX_LINE_BYTES: Final = 8 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
"""Of one header: enough for an oversized id to reach the handler that names it."""

LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and dropped, so that the sender gets to see the answer."""

BACKLOG: Final = 1024


class HotRoute(NamedTuple):
    """One path that is answered before anything is routed."""

    method: str
    path: str
    answer: Handler

    def before(self, routed: Handler) -> Handler:
        """The handler of all requests: this one's own, and `routed` for the others."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.path == self.path and request.method == self.method:
                return await self.answer(request)
            return await routed(request)

        return handle


HOT_ROUTE: Final = web.AppKey("hot_route", HotRoute)


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, *, shutdown_seconds: float) -> AsyncIterator[int]:
    """Serve `app` and give the port, which is a free one when `port` is 0.

    On leaving, no new connection is taken and open requests get `shutdown_seconds`.
    Raises `OSError` when the port is taken.
    """
    runner = _Runner(
        app,
        access_log=None,
        handle_signals=False,
        auto_decompress=False,  # a signature covers the bytes as sent; and no bomb is ever unpacked
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        lingering_time=LINGER_SECONDS,
        shutdown_timeout=shutdown_seconds,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _RequestHandler(web.RequestHandler):
    """What the parser refuses never reaches a middleware; it is answered in the same shape here."""

    __slots__ = ()

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        correlation = correlate(request.headers)
        response = failure(_refusal(status), correlation.request_id)
        response.headers[REQUEST_ID_HEADER] = correlation.request_id
        response.force_close()
        return response


def _refusal(status: int) -> SafeVideoError:
    if status == PayloadTooLarge.status:
        return PayloadTooLarge("The request is larger than this server reads.")
    if status < InternalError.status:
        return ValidationFailed("This is not a well-formed HTTP request.")
    return InternalError("Something went wrong here. The request id finds it in our logs.")


class _Server(web.Server):
    @override
    def __call__(self) -> web.RequestHandler:
        return _RequestHandler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    @override
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp has no factory for its protocol; the class adds no state of its own
        if hot := self.app.get(HOT_ROUTE):
            routed: Handler = server.request_handler  # what an application's runner serves is always a `web.Request`
            server.request_handler = hot.before(routed)  # type: ignore[assignment]  # and aiohttp says `BaseRequest`
        return server
