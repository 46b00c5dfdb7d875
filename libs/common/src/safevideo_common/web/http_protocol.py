"""The connections of an HTTP server, their limits, and a fast path for plain POSTs to one path.

A connection answers plain POSTs itself. At the first other request it hands over to aiohttp's own protocol, for good.
From then on it forwards what the transport calls, so the limits hold for both. It passes data on in small pieces, and
none while a request is handled whose body is complete. So it knows how many bytes of an unfinished request it holds.
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
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy, istr
from typing_extensions import override

from safevideo_common.errors import InternalError, MalformedRequest, ServiceUnavailable
from safevideo_common.web.correlation import Correlation, correlate
from safevideo_common.web.middleware import FAULT_MESSAGE, MALFORMED, BufferedResponse, last_response, rendered_last

MAX_HEADER_BYTES: Final = 32 * 1024
"""Of one header: enough for an oversized id to reach the handler that names it."""
MAX_HEADERS: Final = 128
MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request line and all headers together."""
PIECE_BYTES: Final = 16 * 1024
"""Passed to aiohttp at once. What follows a body in its last piece is the only data that no limit counts."""
LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused request is read and dropped, so that the sender sees the response."""
AIOHTTP_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,  # a signature covers the bytes as sent; and no compressed body is ever expanded
    "max_line_size": 8 * 1024,
    "max_field_size": MAX_HEADER_BYTES,
    "max_headers": MAX_HEADERS,
    "lingering_time": LINGER_SECONDS,
}
SPECIAL_HEADERS: Final = {
    "connection", "expect", "proxy-connection", "sec-websocket-key1", "transfer-encoding", "upgrade",
}  # fmt: skip
PLAIN_CONNECTION: Final = {("connection", "keep-alive"), ("connection", "close")}
CONTINUE: Final = "100-continue"
SERVED_VERSIONS: Final = (HttpVersion10, HttpVersion11)
RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
OnMalformed = Callable[[str | None, Correlation], None]
"""Called with the peer's address for each request that is refused before it reaches a handler."""
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
    max_unfinished_bytes: int = 128 << 20
    """Of all unfinished heads and bodies. Beyond, the connections that have held theirs for longest are closed."""
    reuse_port: bool = False
    """Share the port with other processes; the kernel distributes new connections among them."""
    on_closed: Callable[[str], None] = field(default=lambda _reason: None)
    """Called for each connection that a limit closes: `header_timeout`, `write_timeout`, `evicted`, `buffers_full`,
    `rejected` or `throttled`."""
    admit: Callable[[str | None], bool] | None = None
    """Called with the peer's address for each new connection. False closes it unread."""


class ConnectionGate:
    """The open connections of one server. It closes some of them when they are too many, or hold too many bytes."""

    def __init__(self, limits: ServerLimits, on_malformed: OnMalformed) -> None:
        self.limits = limits
        self.on_malformed = on_malformed
        self.connections: set[HttpConnection] = set()
        self.unfinished_bytes = 0

    def make_room(self) -> bool:
        """Return whether one more connection may be served, after an eviction if needed."""
        if len(self.connections) < self.limits.max_connections:
            return True
        waiting = [each for each in self.connections if each.is_waiting]
        at_once = 1 + int(self.limits.max_connections * EVICTED_SHARE)
        for each in nsmallest(at_once, waiting, key=attrgetter("waiting_since")):
            each.give_up("evicted")
        return bool(waiting)

    def count_unfinished(self, change: int) -> None:
        """Count bytes of unfinished requests. Beyond the limit, close the oldest holders of an eighth of it."""
        self.unfinished_bytes += change
        if change <= 0 or self.unfinished_bytes <= (limit := self.limits.max_unfinished_bytes):
            return
        for each in sorted((each for each in self.connections if each.unfinished), key=attrgetter("unfinished_since")):
            if self.unfinished_bytes <= limit - limit // 8:
                break
            each.give_up("buffers_full")


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
        """Received while a request is handled whose body is complete."""
        self._has_request = False
        """True from the end of a head to the end of its handler."""
        self._is_refused = False
        self._body: StreamReader | None = None
        """The body that arrives or arrived last."""
        self.is_malformed = False
        self.is_rejected = False
        self.waiting_since = monotonic()
        self.unfinished = 0
        """Bytes of a head or body that is not complete, and of what came after a complete one."""
        self.unfinished_since = 0.0

    @property
    def is_waiting(self) -> bool:
        """True while no request is read or handled, and no response waits for its peer."""
        return not (self._is_receiving_body or self._has_request or "write_timeout" in self._timers)

    @property
    def _is_receiving_body(self) -> bool:
        return self._body is not None and not self._body.is_eof()

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
        if self._is_refused:
            return
        if self._task is not None:
            self._keep_unread(data)
        elif self._post is None:
            self._pass_on(data)
        elif "write_timeout" not in self._timers and (request := self._post.parse(data)):
            self.head_received(None)
            self._task = self._loop.create_task(self._respond(self._post, *request))
        else:
            self._hand_over()
            self.data_received(data)

    def _pass_on(self, data: bytes) -> None:
        """Pass `data` to aiohttp, until it has a complete request."""
        while data and not self._transport.is_closing():
            if self._has_request and not self._is_receiving_body:
                self._keep_unread(data)
                return
            if self.is_waiting:
                self._expect_head()
            piece, data = data[:PIECE_BYTES], data[PIECE_BYTES:]
            self._aiohttp.data_received(piece)
            if self._is_receiving_body:
                # Once the handler has returned, aiohttp drops the rest of the body.
                self._set_unfinished(self.unfinished + len(piece) if self._has_request else 0)
            elif self._has_request:
                self._set_unfinished(0)
            else:
                self._set_unfinished(self.unfinished + len(piece))
                if self.unfinished > MAX_HEAD_BYTES:
                    self._refuse_head()
                    return

    def _keep_unread(self, data: bytes) -> None:
        self._unread += data
        self._set_unfinished(self.unfinished + len(data))
        self._transport.pause_reading()

    def _set_unfinished(self, size: int) -> None:
        if not self.unfinished:
            self.unfinished_since = monotonic()
        change, self.unfinished = size - self.unfinished, size
        self._gate.count_unfinished(change)

    def _refuse_head(self) -> None:
        """Answer 400, drop what still comes, and close the connection a little later."""
        self._is_refused = True
        self._set_unfinished(0)
        ids = correlate(CIMultiDictProxy(CIMultiDict()))
        self._gate.on_malformed(self._peer, ids)
        error = MalformedRequest(f"The head of a request may have {MAX_HEAD_BYTES >> 10} KiB at most.")
        self._transport.write(rendered_last(error, ids.request_id))
        self._start_timer("linger", LINGER_SECONDS, self._transport.close)

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
        self._set_unfinished(0)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._aiohttp.connection_lost(exc)
        self._aiohttp = asyncio.Protocol()  # breaks a reference cycle

    def head_received(self, body: StreamReader | None) -> None:
        """Stop the header timeout. `body` is None if it was received with the head."""
        self._stop_timer("header_timeout")
        self._has_request, self._body = True, body

    def body_malformed(self) -> None:
        """Tell the reader of the body, whom aiohttp would let wait for the rest."""
        if self._body is not None and not self._body.is_eof():
            self.is_malformed = True
            self._body.set_exception(web.RequestPayloadError("malformed chunk"))
            self._body.feed_eof()

    def request_ended(self) -> None:
        """Note that the handler has returned, and go on with what was received in the meantime."""
        self._has_request = isinstance(self._aiohttp, _AiohttpProtocol) and self._aiohttp.has_requests
        self.waiting_since = monotonic()
        data, self._unread = self._unread, b""
        self._set_unfinished(0)
        if data:
            self._transport.resume_reading()
            self.data_received(data)

    def refuse(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response to a malformed request, and report it."""
        ids = correlate(request.headers)
        self._gate.on_malformed(self._peer, ids)
        return last_response(MalformedRequest(MALFORMED), ids)

    def give_up(self, reason: str) -> None:
        """Abort the connection and report `reason`. A normal close would wait until the peer has read everything."""
        self._gate.connections.discard(self)
        self._set_unfinished(0)
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
            if is_last:
                self._transport.close()
            self.request_ended()

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
    """Return a handler that reports each request to its connection.

    It answers 503 on a rejected connection, and 400 to an HTTP version or an expectation that is not supported.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, _AiohttpProtocol)
        connection = request.protocol.connection
        try:
            if connection.is_rejected:
                error = ServiceUnavailable("There are too many connections.", retry_after=1)
                return last_response(error, correlate(request.headers))
            if request.version not in SERVED_VERSIONS or request.headers.get("Expect", CONTINUE).lower() != CONTINUE:
                return connection.refuse(request)
            response = await handler(request)
            if connection.is_malformed:
                response.force_close()
            return response
        finally:
            connection.request_ended()  # aiohttp writes the response in the same step, or until writing is paused

    return handle


class _AiohttpProtocol(web.RequestHandler):
    """aiohttp's protocol of a connection. It answers malformed requests with the contract's error body.

    Its private list of requests is read here, since nothing public says that a head is complete, or that the rest of a
    body cannot be parsed. The tests of heads, pipelining and malformed chunks fail if it changes.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: HttpConnection, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, **AIOHTTP_OPTIONS)
        self.connection = connection

    @property
    def has_requests(self) -> bool:
        """True while a request waits for its handler."""
        return bool(self._messages)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            message, body = self._messages[-1]
            if isinstance(message, RawRequestMessage):
                self.connection.head_received(body)
            else:
                self.connection.body_malformed()

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of a response is sent already")
        if status < InternalError.status:
            return self.connection.refuse(request)
        return last_response(InternalError(FAULT_MESSAGE), correlate(request.headers))
