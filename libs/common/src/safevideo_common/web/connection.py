"""One connection, with an end to every patience: aiohttp waits for ever for a head and for an answer to be read."""

import asyncio
from heapq import nsmallest
from typing import Final

from aiohttp import web
from typing_extensions import override

from safevideo_common.errors import InternalError, PayloadTooLarge, SafeVideoError, ServiceUnavailable, ValidationFailed
from safevideo_common.web.bounds import ServerBounds
from safevideo_common.web.correlation import REQUEST_ID_HEADER, correlate
from safevideo_common.web.responses import failure

CROWDED_OUT_AT_ONCE: Final = 64
"""A 64th of all connections gives way together: looking through them all for each new one would cost more than it."""


class Connection(web.RequestHandler):
    """aiohttp's connection within `ServerBounds`. What its parser refuses is answered in the contract's shape."""

    __slots__ = ("_bounds", "_head_timer", "_is_let_in", "_unread_timer")

    def __init__(self, manager: web.Server, bounds: ServerBounds, loop: asyncio.AbstractEventLoop, **options: object):
        super().__init__(manager, loop=loop, **options)  # type: ignore[arg-type]  # aiohttp's own keywords, from its runner
        self._bounds = bounds
        self._is_let_in = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered, or waits for its turn."""
        return self._request_in_progress or bool(self._messages)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or has one that is yet to be begun."""
        return self._waiter is not None

    @property
    def awaits_head(self) -> bool:
        """Whether a head was begun, or the connection is new."""
        return self._head_timer is not None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_head()
        if self._manager is not None and len(self._manager.connections) > self._bounds.max_connections:
            self._crowd_out(self._manager)

    @override
    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        waiter, self._waiter = self._waiter, None  # so that it is us who wake whoever waits
        super().data_received(data)
        self._waiter = waiter
        if self._request_count != heads:
            self._stop_head_timer()
            self._wake()
        elif data and waiter is not None and self._head_timer is None:  # the beginning of a head, and no body
            self._expect_head()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self._loop.call_later(self._bounds.unread_seconds, self._give_up, "unread")

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        return _last_answer(request, _refusal(status))

    def _wake(self) -> None:
        """There is a request. aiohttp's task answers it, unless it is busy with one before."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expect_head(self) -> None:
        self._head_timer = self._loop.call_later(self._bounds.head_seconds, self._give_up, "slow_head")

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _give_up(self, reason: str) -> None:
        self._bounds.closed(reason)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()  # a mere close would wait until the peer has read what is written

    def _crowd_out(self, manager: web.Server) -> None:
        """Make room by closing those who wait longest for a request; where none is, this one gets 503 for its first."""
        idle = [each for each in manager.connections if isinstance(each, Connection) and each.is_idle]
        for each in nsmallest(1 + self._bounds.max_connections // CROWDED_OUT_AT_ONCE, idle, key=_last_used):
            each._give_up("crowded_out")
        if not idle:
            self._bounds.closed("turned_away")
            self._request_handler = _turn_away
            self._is_let_in = False


def _last_used(connection: Connection) -> float:
    return connection._next_keepalive_close_time


async def _turn_away(request: web.BaseRequest) -> web.StreamResponse:
    return _last_answer(request, ServiceUnavailable("There are too many connections.", retry_after=1))


def _last_answer(request: web.BaseRequest, error: SafeVideoError) -> web.StreamResponse:
    correlation = correlate(request.headers)
    response = failure(error, correlation.request_id)
    response.headers[REQUEST_ID_HEADER] = correlation.request_id
    response.force_close()
    return response


def _refusal(status: int) -> SafeVideoError:
    if status == PayloadTooLarge.status:
        return PayloadTooLarge("The request is larger than this server reads.")
    if status < InternalError.status:
        return ValidationFailed("This is not a well-formed HTTP request.")
    return InternalError("Something went wrong here. The request id finds it in our logs.")
