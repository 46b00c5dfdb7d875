"""A member of a consumer group: its loops, its retry scan and its look at the lag, from joining to leaving."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from safevideo_common.messaging.consuming.batch import Applier
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_share import TooManyDead
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.lag_watch import LagWatch
from safevideo_common.messaging.consuming.loop import ConsumeLoop
from safevideo_common.messaging.consuming.progress import LoopProgress, Progress
from safevideo_common.messaging.consuming.retries import RetryScan
from safevideo_common.messaging.consuming.settings import ConsumerSettings
from safevideo_common.messaging.port import EventLog, Share, Subscription
from safevideo_common.task_groups import first_error


@dataclass(frozen=True, slots=True)
class Member(Generic[Event, States]):
    """Consumes `topics` as a member of the consumer's group."""

    event_log: EventLog
    topics: Sequence[str]
    consumer: Consumer[Event, States]
    settings: ConsumerSettings
    progress: Progress

    async def run(self) -> None:
        """Until cancelled, or for good when too many events would die: then it leaves the group and does nothing more.

        It does not end then, since a process that ends is started again, and would bury more.
        """
        try:
            await self._consume()
        except TooManyDead as limit:
            self._halt(str(limit))
        await asyncio.Event().wait()

    def _halt(self, reason: str) -> None:
        self.progress.halt(reason)
        self.consumer.metrics.halted()
        self.consumer.log.error("Consuming has halted", code="TOO_MANY_DEAD", reason=reason)

    async def _consume(self) -> None:
        group = self.consumer.group
        async with self.event_log.subscribe(group, self.topics, group) as subscription:
            with first_error():
                async with asyncio.TaskGroup() as tasks:
                    self._start(subscription, tasks)

    def _start(self, subscription: Subscription, tasks: asyncio.TaskGroup) -> None:
        number = self.settings.consume_loops
        loops = [(Share(index, number), self.progress.begin()) for index in range(number)]
        for share, progress in loops:
            tasks.create_task(self._loop(subscription, share, progress).run(), name=f"consume-{share.index}")
        scan = RetryScan(self.consumer, self.settings.retry_scan_seconds, self.settings.retry_tries)
        tasks.create_task(scan.run(), name="retry-scan")
        watch = LagWatch(subscription, loops, self.consumer.metrics, self.consumer.lag)
        tasks.create_task(watch.run(), name="lag-watch")

    def _loop(self, subscription: Subscription, share: Share, progress: LoopProgress) -> ConsumeLoop[Event, States]:
        consumer = self.consumer
        return ConsumeLoop(
            subscription,
            share,
            Applier(consumer),
            self.settings.batch_records,
            progress,
            consumer.log,
            consumer.metrics,
        )
