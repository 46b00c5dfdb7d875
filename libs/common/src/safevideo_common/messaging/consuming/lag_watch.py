"""Looks, every few seconds, how far a member is behind."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.consuming.live_lag import LiveLag
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.progress import LoopProgress
from safevideo_common.messaging.port import Share, Subscription, TopicPartition

LAG_SECONDS: Final = 5.0


@dataclass(slots=True)
class LagWatch:
    """Tells the metrics, the progress of each loop, and who works beside them, what lies ahead. Run by one task."""

    subscription: Subscription
    loops: Sequence[tuple[Share, LoopProgress]]
    metrics: ConsumerMetrics
    live_lag: LiveLag
    _epoch: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._tell(await self._lag())
                await asyncio.sleep(LAG_SECONDS)
        finally:
            self.live_lag.sees(0)

    async def _lag(self) -> Mapping[TopicPartition, int]:
        try:
            return await self.subscription.lag()
        except LogUnavailable:
            return {}  # unknown: an absent series, not an old figure

    def _tell(self, lag: Mapping[TopicPartition, int]) -> None:
        self.metrics.lag(lag)
        self.live_lag.sees(sum(lag.values()))
        for share, progress in self.loops:
            progress.sees(sum(records for each, records in lag.items() if share.has(each.partition)))
        self.metrics.rebalanced(self.subscription.epoch - self._epoch)
        self._epoch = self.subscription.epoch
