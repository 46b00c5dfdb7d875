"""Faults on purpose, as one layer over everything that the integration calls; steering always works."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Annotated, Final, Literal, Never

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import Field

from sharegram_simulator.errors import Broken, Dropped, Invalid, RateLimited, Unauthorized
from sharegram_simulator.web.answers import Wire, json_answer
from sharegram_simulator.web.calls import is_steering

HANG_SECONDS: Final = 120
"""Longer than any caller waits; then the connection is dropped, so that hanging calls do not pile up for ever."""


HUGE_BYTES: Final = 64 << 20
CHUNK: Final = bytes(64 << 10)
CONNECTIONS_KEPT: Final = 10_000

Mode = Literal[
    "ok",
    "down",  # the connection is dropped
    "refused",  # nothing listens for `delayMs`, then it is over
    "hang",
    "slow",
    "errors",  # `status`, with `retryAfter` if there is one
    "unauthorized",
    "rate_limited",
    "cut",  # half of a response, then the connection is dropped
    "idle_closed",  # a connection serves one call; a later one on it is dropped, as if it had been closed while idle
    "redirect",  # to another host
    "not_json",
    "wrong_shape",  # JSON with other fields
    "huge",  # 64 MiB of body, without a length
]


class Fault(Wire):
    """A fault, the fraction of calls that it hits, and their paths (all if none are named)."""

    mode: Mode = "ok"
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    delay_ms: Annotated[int, Field(ge=0, le=HANG_SECONDS * 1000)] = 2000
    status: Annotated[int, Field(ge=500, le=599)] = 500
    retry_after: Annotated[float, Field(ge=0, le=86_400)] | Annotated[str, Field(max_length=100)] | None = None
    """Seconds, or a text that is sent as it is: a date, or nonsense. 30 for `rate_limited` unless set."""
    after_effect: bool = False
    """The call has its effect first; then the fault takes its answer away."""
    paths: tuple[Annotated[str, Field(pattern="^/", max_length=200)], ...] = ()

    def covers(self, path: str) -> bool:
        """Return True if the fault can hit calls of this path."""
        return self.mode != "ok" and (not self.paths or path.startswith(self.paths))


class Faults:
    """The present fault. Only calls that begin after a change feel it."""

    def __init__(self, dice: random.Random) -> None:
        self.current = Fault()
        self.refuse: Callable[[float], None] | None = None
        """Stops listening for these seconds; set by whoever owns the listening socket."""
        self._dice = dice
        self._closing = asyncio.Event()
        self._used_connections: deque[object] = deque(maxlen=CONNECTIONS_KEPT)

    def set(self, fault: Fault) -> None:
        """Play this fault from the next call on. Raises `Invalid` if this process cannot."""
        if fault.mode == "refused":
            if self.refuse is None:
                raise Invalid("The simulator does not own its socket.", details={"mode": "refused needs `serving`"})
            self.refuse(fault.delay_ms / 1000)
        self.current = fault
        self._used_connections.clear()

    def middleware(self) -> Middleware:
        """Hits the calls that the fault covers."""

        @web.middleware
        async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = self.current
            if is_steering(request) or not fault.covers(request.path) or self._dice.random() >= fault.rate:
                return await handler(request)
            response = await handler(request) if fault.after_effect else None
            instead = await self._hit(request, fault)
            if instead is not None:
                return instead
            return await handler(request) if response is None else response

        return inject

    async def release(self, _: web.Application) -> None:
        """End the calls that hang: the application is closing."""
        self._closing.set()

    async def _hit(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        """Drop, refuse, answer otherwise, or return None: the call goes on."""
        match fault.mode:
            case "down" | "refused":
                _drop(request)
            case "hang":
                await self._pause(HANG_SECONDS)
                _drop(request)
            case "slow":
                await self._pause(fault.delay_ms / 1000)
            case "idle_closed":
                self._drop_if_used(request)
            case "errors":
                raise Broken("Sharegram fails, as it was told to.", status=fault.status, retry_after=fault.retry_after)
            case "unauthorized":
                raise Unauthorized("Refused, as it was told to say.", details={"reason": "fault"})
            case "rate_limited":
                retry_after = 30 if fault.retry_after is None else fault.retry_after
                raise RateLimited("Too many requests, as it was told to say.", retry_after=retry_after)
            case _:
                return await _odd_answer(request, fault.mode)
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    def _drop_if_used(self, request: web.Request) -> None:
        connection = request.transport and request.transport.get_extra_info("peername")
        if connection in self._used_connections:
            _drop(request)
        self._used_connections.append(connection)


async def _odd_answer(request: web.Request, mode: Mode) -> web.StreamResponse:
    match mode:
        case "redirect":
            return web.Response(status=307, headers={"Location": f"http://elsewhere.invalid{request.path}"})
        case "not_json":
            return web.Response(text="<html>Please log in</html>", content_type="text/html")
        case "wrong_shape":
            return json_answer({"status": 7, "performers": 7, "planted": "a-value-of-sharegram"})
        case "huge":
            return await _stream(request, length=None, total=HUGE_BYTES)
    response = await _stream(request, length=1000, total=500)
    if request.transport is not None:
        request.transport.abort()
    return response


async def _stream(request: web.Request, *, length: int | None, total: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = length
    try:
        await response.prepare(request)
        for start in range(0, total, len(CHUNK)):
            await response.write(CHUNK[: total - start])
    except ConnectionError:
        raise Dropped from None
    return response


def _drop(request: web.Request) -> Never:
    if request.transport is not None:
        request.transport.abort()
    raise Dropped
