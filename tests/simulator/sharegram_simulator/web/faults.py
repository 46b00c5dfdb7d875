"""Faults on purpose, as one layer over everything that the integration calls; steering always works."""

import asyncio
import random
from typing import Annotated, Final, Literal, Never

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import Field

from sharegram_simulator.errors import Broken, Dropped, RateLimited
from sharegram_simulator.web.answers import Wire
from sharegram_simulator.web.calls import is_steering

HANG_SECONDS: Final = 120
"""Longer than any caller waits; then the connection is dropped, so that hanging calls do not pile up for ever."""


class Fault(Wire):
    """A fault, the fraction of calls that it hits, and their paths (all if none are named)."""

    mode: Literal["ok", "down", "slow", "errors", "rate_limited", "hang"] = "ok"
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    delay_ms: Annotated[int, Field(ge=0, le=HANG_SECONDS * 1000)] = 2000
    retry_after: Annotated[float, Field(ge=0, le=86_400)] = 30
    paths: tuple[Annotated[str, Field(pattern="^/", max_length=200)], ...] = ()

    def covers(self, path: str) -> bool:
        """Return True if the fault can hit calls of this path."""
        return self.mode != "ok" and (not self.paths or path.startswith(self.paths))


class Faults:
    """The present fault. Only calls that begin after a change feel it."""

    def __init__(self, dice: random.Random) -> None:
        self.current = Fault()
        self._dice = dice
        self._closing = asyncio.Event()

    def middleware(self) -> Middleware:
        """Hits the calls that the fault covers."""

        @web.middleware
        async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = self.current
            if not is_steering(request) and fault.covers(request.path) and self._dice.random() < fault.rate:
                await self._hit(request, fault)
            return await handler(request)

        return inject

    async def release(self, _: web.Application) -> None:
        """End the calls that hang: the application is closing."""
        self._closing.set()

    async def _hit(self, request: web.Request, fault: Fault) -> None:
        match fault.mode:
            case "down":
                _drop(request)
            case "slow":
                await self._pause(fault.delay_ms / 1000)
            case "errors":
                raise Broken("Sharegram fails, as it was told to.")
            case "rate_limited":
                raise RateLimited("Too many requests, as it was told to say.", retry_after=fault.retry_after)
            case "hang":
                await self._pause(HANG_SECONDS)
                _drop(request)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


def _drop(request: web.Request) -> Never:
    if request.transport is not None:
        request.transport.abort()
    raise Dropped
