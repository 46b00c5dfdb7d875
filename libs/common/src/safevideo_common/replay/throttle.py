"""How fast a replay may go: so many events a second, and not while the live flow falls behind."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from safevideo_common.inbox.processor import LagTrend
from safevideo_common.replay.metrics import WaitReason

LOOK_SECONDS: Final = 0.5
"""Between two looks whether it may go on; a cancellation is seen as quickly."""


class Throttle:
    """Of one replay. `rest` is called after each batch."""

    def __init__(
        self,
        per_second: int,
        lag: LagTrend,
        waited: Callable[[WaitReason, float], None],
        *,
        now: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`waited` hears of each wait, in seconds, and what it was for."""
        self.batch: Final = max(1, per_second // 2)
        """Events at once at most: so no rest is much longer than half a second, but for one event every second."""
        self._per_second = per_second
        self._lag = lag
        self._waited = waited
        self._now = now
        self._sleep = sleep
        self._free_at = now()

    async def rest(self, events: int, check: Callable[[], Awaitable[None]]) -> None:
        """Until the next batch may begin, `events` having just been done. `check` is called now and then meanwhile."""
        self._free_at = max(self._free_at, self._now() - LOOK_SECONDS) + events / self._per_second
        while (ahead := self._free_at - self._now()) > 0:
            await self._wait(WaitReason.THROTTLE, min(ahead, LOOK_SECONDS))
            await check()
        while self._lag.is_growing:
            await self._wait(WaitReason.LIVE_LAG, LOOK_SECONDS)
            await check()

    async def _wait(self, wait: WaitReason, seconds: float) -> None:
        await self._sleep(seconds)
        self._waited(wait, seconds)
