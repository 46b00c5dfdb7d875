"""A connection that answers what came in one piece itself, and leaves all else to aiohttp."""

import asyncio

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy
from typing_extensions import override

from safevideo_common.web.bounds import ServerBounds
from safevideo_common.web.connection import Connection
from safevideo_common.web.whole import WholePost


class WholeConnection(Connection):
    """See `WholePost`. One request at a time: what comes meanwhile waits in aiohttp's queue, within its bounds."""

    __slots__ = ("_answering", "_taken", "_whole")

    def __init__(
        self,
        manager: web.Server,
        bounds: ServerBounds,
        whole: WholePost,
        loop: asyncio.AbstractEventLoop,
        **options: object,
    ):
        super().__init__(manager, bounds, loop, **options)
        self._whole = whole
        self._answering: asyncio.Task[None] | None = None
        self._taken: tuple[RawRequestMessage, StreamReader] | None = None
        """What `_answering` is about, until it has begun."""

    @property
    @override
    def is_busy(self) -> bool:
        return self._answering is not None or super().is_busy

    @property
    @override
    def is_idle(self) -> bool:
        return self._answering is None and super().is_idle

    @override
    async def shutdown(self, timeout: float | None = 15.0) -> None:
        if self._answering is not None:
            await asyncio.wait([self._answering], timeout=timeout)
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    @override
    def _wake(self) -> None:
        if self._answering is None:
            if not self._took_it():
                super()._wake()
        elif self._taken is not None:  # aiohttp's task may see the second before we have begun the first
            self._give_back()
            super()._wake()

    @override
    def _process_keepalive(self) -> None:
        if self._answering is None:
            super()._process_keepalive()
        else:  # the time begins again with the end of this request
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)

    def _took_it(self) -> bool:
        """Take the one request that waits, if it is for us."""
        if len(self._messages) != 1 or not self._is_free():
            return False
        message, payload = self._messages[0]
        if not isinstance(message, RawRequestMessage) or not self._whole.takes(message, payload):
            return False
        self._messages.clear()
        self._taken = message, payload
        self._answering = self._loop.create_task(self._answer())
        return True

    def _give_back(self) -> None:
        if self._taken is not None:
            self._messages.appendleft(self._taken)
            self._taken = None

    def _is_free(self) -> bool:
        """Whether aiohttp's task is at rest, or is about to be: it is not awake for a request that it has taken."""
        is_at_work = self._request_in_progress or (self._waiter is not None and self._waiter.done())
        return self._is_let_in and not (is_at_work or self._paused or self._close or self._force_close)

    async def _answer(self) -> None:
        if self._taken is None or self._waiter is None:
            # Given back; or aiohttp's task has not come to rest: it closes, or comes round for the next request.
            self._give_back()
            self._answering = None
            return
        (message, payload), self._taken = self._taken, None
        is_last = True
        try:
            if self._parser is not None:
                self._parser.message_consumed()
            is_last = await self._answered(message.headers, self._body(payload))
        finally:
            self._answering = None
            self._go_on(is_last)

    async def _answered(self, headers: CIMultiDictProxy[str], body: bytes) -> bool:
        """Send the answer and say whether it is the last one."""
        peer = self.peername
        answer = await self._whole.answer(headers, body, peer[0] if isinstance(peer, tuple) else peer)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer.sent)
        return answer.is_last

    def _body(self, payload: StreamReader) -> bytes:
        if self._reading_paused:
            return payload.read_nowait(-1)  # it was more than the reader holds: this starts the reading again
        return b"".join(payload._buffer)  # reading it would start anew what nobody has stopped

    def _go_on(self, is_last: bool) -> None:
        if is_last:
            self.force_close()  # what is written is sent before
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._messages:
            self._wake()
