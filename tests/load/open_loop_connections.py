"""The connections of a load that does not wait. Each carries one webhook at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from payloads import Keys, bodies, signature
from typing_extensions import override
from wrk import CONNECTIONS

CONNECT_SECONDS: Final = 10.0

Done = Callable[[bool], None]


class _Connection(asyncio.Protocol):
    """Sends one request, and says whether the answer to it is 200."""

    def __init__(self, free: Callable[["_Connection"], None]) -> None:
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._done: Done | None = None
        self._answer = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def send(self, request: bytes, done: Done) -> None:
        assert self._transport is not None
        self._done = done
        self._transport.write(request)

    @override
    def data_received(self, data: bytes) -> None:
        self._answer += data
        if _is_whole(self._answer):
            taken, self._answer = self._answer.startswith(b"HTTP/1.1 200"), b""
            self._say(taken)
            self._free(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._say(False)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _say(self, taken: bool) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(taken)


class Connections:
    """`CONNECTIONS` of them. A webhook that finds none free waits for one, and its latency grows."""

    def __init__(self, in_turn: int) -> None:
        self._requests = [_request(body) for _, body in bodies(range(in_turn), Keys())]
        self._free: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, Done]] = deque()

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int, in_turn: int) -> AsyncIterator["Connections"]:
        """All of them connected to `port`."""
        loop, self, opened = asyncio.get_running_loop(), cls(in_turn), []
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(CONNECTIONS):
                _, connection = await loop.create_connection(lambda: _Connection(self._freed), "127.0.0.1", port)
                opened.append(connection)
        self._free.extend(opened)
        try:
            yield self
        finally:
            for connection in opened:
                connection.close()

    def send(self, number: int, done: Done) -> None:
        """See `Target`."""
        if self._free:
            self._free.popleft().send(self._requests[number % len(self._requests)], done)
        else:
            self._waiting.append((number, done))

    def _freed(self, connection: _Connection) -> None:
        self._free.append(connection)
        if self._waiting:
            self.send(*self._waiting.popleft())


def _request(body: bytes) -> bytes:
    head = f"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nX-Sharegram-Signature: {signature(body)}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    _, _, length = head.lower().partition(b"content-length: ")
    return len(body) >= int(length.partition(b"\r")[0])
