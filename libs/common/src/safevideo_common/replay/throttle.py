"""The throttle of a replay: a rate of events, and a pause while the live flow falls behind."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from safevideo_common.inbox.group_member import LagTrend
from safevideo_common.replay.metrics import WaitReason

CHECK_INTERVAL: Final = 0.5
"""The longest sleep before the next check for cancellation and lag."""


class Throttle:
    """The throttle of one replay."""

    def __init__(
        self,
        per_second: int,
        lag: LagTrend,
        record_wait: Callable[[WaitReason, float], None],
        *,
        now: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`record_wait` is called with the reason and the seconds of each wait."""
        self.max_batch: Final = max(1, per_second // 2)
        """The size limit of a batch. So a wait is about half a second, or a second at the lowest rate."""
        self._per_second = per_second
        self._lag = lag
        self._record_wait = record_wait
        self._now = now
        self._sleep = sleep
        self._free_at = now()

    async def wait(self, events: int, check: Callable[[], Awaitable[None]]) -> None:
        """Wait after a batch of `events` until the next may begin. Call `check` at each interval."""
        self._free_at = max(self._free_at, self._now() - CHECK_INTERVAL) + events / self._per_second
        while (ahead := self._free_at - self._now()) > 0:
            await self._pause(WaitReason.THROTTLE, min(ahead, CHECK_INTERVAL))
            await check()
        while self._lag.is_growing:
            await self._pause(WaitReason.LIVE_LAG, CHECK_INTERVAL)
            await check()

    async def _pause(self, reason: WaitReason, seconds: float) -> None:
        await self._sleep(seconds)
        self._record_wait(reason, seconds)
