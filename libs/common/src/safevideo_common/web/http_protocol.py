"""The connections of an HTTP server, their limits, and a fast path for plain POSTs to one path.

A connection answers plain POSTs itself. At the first other request it hands over to aiohttp's own protocol, for good.
From then on it forwards what the transport calls, so the limits hold for both.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nsmallest
from operator import attrgetter
from time import monotonic
from typing import Any, Final, cast

from aiohttp import StreamReader, hdrs, web
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy, istr
from typing_extensions import override

from safevideo_common.errors import InternalError, ServiceUnavailable, ValidationFailed
from safevideo_common.web.middleware import FAULT_MESSAGE, BufferedResponse, last_response

MAX_HEADER_BYTES: Final = 32 * 1024
"""Of one header: enough for an oversized id to reach the handler that names it."""
MAX_HEADERS: Final = 128
AIOHTTP_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,  # a signature covers the bytes as sent; and no compressed body is ever expanded
    "max_line_size": 8 * 1024,
    "max_field_size": MAX_HEADER_BYTES,
    "max_headers": MAX_HEADERS,
    "lingering_time": 2.0,  # the rest of a refused body is read and dropped, so that the sender sees the response
}
SPECIAL_HEADERS: Final = {
    "connection", "expect", "proxy-connection", "sec-websocket-key1", "transfer-encoding", "upgrade",
}  # fmt: skip
PLAIN_CONNECTION: Final = {("connection", "keep-alive"), ("connection", "close")}
RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
EVICTED_SHARE: Final = 1 / 64
"""The share of connections that is evicted together, because each eviction looks at all of them."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of one process's HTTP server against slow and numerous clients. Times are in seconds."""

    header_timeout: float = 10.0
    """From the first byte of a request, or the opening of a connection, to the end of the head."""
    idle_timeout: float = 75.0
    """Between two requests. Longer than the 60 s of nginx and most balancers, so that they close the connection."""
    write_timeout: float = 10.0
    """How long a peer may leave a response unread once all buffers are full."""
    max_connections: int = 2048
    """Beyond, the connections that wait longest for a request head are evicted."""
    reuse_port: bool = False
    """Share the port with other processes; the kernel distributes new connections among them."""
    on_closed: Callable[[str], None] = field(default=lambda _reason: None)
    """Called for each connection that a limit closes: `header_timeout`, `write_timeout`, `evicted`, `rejected` or
    `throttled`."""
    admit: Callable[[str | None], bool] | None = None
    """Called with the peer's address for each new connection. False closes it unread."""


class ConnectionGate:
    """The open connections of one server. It evicts those that wait longest for a request head."""

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self.connections: set[HttpConnection] = set()

    def make_room(self) -> bool:
        """Return whether one more connection may be served, after an eviction if needed."""
        if len(self.connections) < self.limits.max_connections:
            return True
        waiting = [each for each in self.connections if each.is_waiting]
        at_once = 1 + int(self.limits.max_connections * EVICTED_SHARE)
        for each in nsmallest(at_once, waiting, key=attrgetter("waiting_since")):
            each.give_up("evicted")
        return bool(waiting)


class BufferedPost:
    """The plain POSTs to one path. A POST is plain if it arrives whole, in one piece, and needs nothing of aiohttp."""

    def __init__(
        self, path: str, handle: Callable[[CIMultiDictProxy[str], bytes, str | None], Awaitable[BufferedResponse]]
    ) -> None:
        """`handle` takes headers, body and the peer's address. It raises nothing but cancellation."""
        self.handle = handle
        self._request_line = f"POST {path} HTTP/1.1\r\n".encode()
        self._parser = HttpRequestParser(self)

    def parse(self, data: bytes) -> tuple[CIMultiDictProxy[str], bytes] | None:
        """Return headers and body if `data` is exactly one plain POST."""
        if not data.startswith(self._request_line) or len(data) > MAX_HEADER_BYTES:
            return None
        headers: CIMultiDict[str] = CIMultiDict()
        self._headers, self._body, self._begun, self._is_complete, self._is_plain = headers, b"", 0, False, True
        is_whole = False
        with suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
            is_whole = self._is_complete and self._begun == 1 and bool(self._body) and hdrs.HOST in headers
        is_plain = is_whole and self._is_plain
        if not is_plain or hdrs.CONNECTION in headers:
            self._parser = HttpRequestParser(self)  # the old one may expect more of this request, or none after it
        return (CIMultiDictProxy(headers), self._body) if is_plain else None

    def on_message_begin(self) -> None:
        """Count a request."""
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        key, is_special = _header_name(name)
        text = value.rstrip(b" \t").decode("utf-8", "surrogateescape")
        if key in self._headers or (is_special and (key.lower(), text.lower()) not in PLAIN_CONNECTION):
            self._is_plain = False
        self._headers.add(key, text)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._is_complete, self._is_plain = True, self._is_plain and len(self._headers) <= MAX_HEADERS


@lru_cache(maxsize=256)
def _header_name(raw: bytes) -> tuple[istr, bool]:
    name = raw.decode("ascii")
    return istr(name), name.lower() in SPECIAL_HEADERS


class HttpConnection(asyncio.Protocol):
    """A client connection within `ServerLimits`."""

    def __init__(self, gate: ConnectionGate, server: web.Server, post: BufferedPost | None) -> None:
        self._gate = gate
        self._server = server
        self._post = post
        """None once aiohttp has the connection."""
        self._aiohttp = asyncio.Protocol()
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._task: asyncio.Task[None] | None = None
        self._unread = b""
        """Received while a plain POST is answered."""
        self._is_responding = False
        self._body: StreamReader | None = None
        self.is_rejected = False
        self.waiting_since = monotonic()

    @property
    def is_waiting(self) -> bool:
        """True while no request is read or handled, and no response waits for its peer."""
        is_read = self._body is None or self._body.is_eof()
        return is_read and not self._is_responding and "write_timeout" not in self._timers

    @property
    def expects_head(self) -> bool:
        """True once a head has begun, and on a new connection."""
        return "header_timeout" in self._timers

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class
        limits, peer = self._gate.limits, transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else None
        if limits.admit is not None and not limits.admit(self._peer):
            limits.on_closed("throttled")
            transport.close()
            return
        self.is_rejected = not self._gate.make_room()
        self._gate.connections.add(self)
        self._expect_head()
        self._start_timer("idle_timeout", limits.idle_timeout, self._close_if_idle)
        if self.is_rejected:
            limits.on_closed("rejected")
        if self.is_rejected or self._post is None:
            self._hand_over()

    @override
    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            self._unread += data
            self._transport.pause_reading()
        elif self._post is None:
            if self.is_waiting:
                self._expect_head()
            self._aiohttp.data_received(data)
        elif "write_timeout" not in self._timers and (request := self._post.parse(data)):
            self.request_started(None)
            self._task = self._loop.create_task(self._respond(self._post, *request))
        else:
            self._hand_over()
            self.data_received(data)

    @override
    def eof_received(self) -> bool | None:
        return self._aiohttp.eof_received()

    @override
    def pause_writing(self) -> None:
        self._start_timer("write_timeout", self._gate.limits.write_timeout, self.give_up, "write_timeout")
        self._aiohttp.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._stop_timer("write_timeout")
        self._aiohttp.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.connections.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._aiohttp.connection_lost(exc)
        self._aiohttp = asyncio.Protocol()  # breaks a reference cycle

    def request_started(self, body: StreamReader | None) -> None:
        """Stop the header timeout. `body` is None if it was received with the head."""
        self._stop_timer("header_timeout")
        self._is_responding, self._body = True, body

    def request_ended(self) -> None:
        """Note that the handler has returned, and wait for the next request."""
        self._is_responding, self.waiting_since = False, monotonic()

    def give_up(self, reason: str) -> None:
        """Abort the connection and report `reason`. A normal close would wait until the peer has read everything."""
        self._gate.connections.discard(self)
        self._gate.limits.on_closed(reason)
        self._transport.abort()

    def stop(self) -> None:
        """Cancel the plain POST and close the connection, unless aiohttp has it: its own shutdown closes that."""
        if self._task is not None:
            self._task.cancel()
        if self._post is not None:
            self._transport.close()

    async def _respond(self, post: BufferedPost, headers: CIMultiDictProxy[str], body: bytes) -> None:
        is_last = True
        try:
            response = await post.handle(headers, body, self._peer)
            if not self._transport.is_closing():
                self._transport.write(response.data)
                is_last = response.is_last or self._transport.is_closing()
        finally:
            self._task = None
            self.request_ended()
            if is_last:
                self._transport.close()
            elif self._unread:
                data, self._unread = self._unread, b""
                self._transport.resume_reading()
                self.data_received(data)

    def _hand_over(self) -> None:
        self._post = None
        self._aiohttp = _AiohttpProtocol(self, self._server, self._loop)
        self._aiohttp.connection_made(self._transport)
        if "write_timeout" in self._timers:
            self._aiohttp.pause_writing()

    def _expect_head(self) -> None:
        if not self.expects_head:
            self._start_timer("header_timeout", self._gate.limits.header_timeout, self.give_up, "header_timeout")

    def _close_if_idle(self) -> None:
        limit = self._gate.limits.idle_timeout
        left = self.waiting_since + limit - monotonic()
        if self.is_waiting and not self.expects_head and left <= 0:
            self._transport.close()
        else:
            self._start_timer("idle_timeout", left if left > 0 else limit, self._close_if_idle)

    def _start_timer(self, name: str, seconds: float, act: Callable[..., None], *arguments: str) -> None:
        self._timers[name] = self._loop.call_later(seconds, act, *arguments)

    def _stop_timer(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()


def within_limits(handler: RequestHandler) -> RequestHandler:
    """Return a handler that reports each request to its connection, and answers 503 on a rejected one."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, _AiohttpProtocol)
        connection = request.protocol.connection
        connection.request_started(request.content)
        try:
            if connection.is_rejected:
                return last_response(request, ServiceUnavailable("There are too many connections.", retry_after=1))
            return await handler(request)
        finally:
            connection.request_ended()  # aiohttp writes the response in the same step, or until writing is paused

    return handle


class _AiohttpProtocol(web.RequestHandler):
    """aiohttp's protocol of a connection. It answers malformed requests with the contract's error body."""

    __slots__ = ("connection",)

    def __init__(self, connection: HttpConnection, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, **AIOHTTP_OPTIONS)
        self.connection = connection

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of a response is sent already")
        if status < InternalError.status or isinstance(exc, UnicodeError):  # aiohttp quotes an unknown `Expect`
            return last_response(request, ValidationFailed("This is not a well-formed HTTP request."))
        return last_response(request, InternalError(FAULT_MESSAGE))
