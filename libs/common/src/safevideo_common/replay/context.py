"""One run of a replay: what its parts share."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Generic, Protocol

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.inbox.handler import Delivery, Event, ReplayableHandler, States, delivery_of
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.jobs.handler import JobContext
from safevideo_common.replay.metrics import ReplayProgress
from safevideo_common.replay.plan import ReplayCheckpoint
from safevideo_common.replay.reader import Chunk
from safevideo_common.replay.request import ReplayParameters
from safevideo_common.replay.throttle import Throttle

SAVE_SECONDS: Final = 1.0
"""While nothing is applied the row is written so often."""


@dataclass(slots=True)
class ReplayContext(Generic[Event, States]):
    """`cursor` is as it is saved, or ahead of that by what had no effect. Several tasks bring it forward."""

    job: JobContext
    asked: ReplayParameters
    consumer: ConsumerContext[Event, States]
    handler: ReplayableHandler[Event, States]
    pace: Throttle
    cursor: ReplayCheckpoint
    progress: ReplayProgress
    ahead: dict[int, ReplayCheckpoint] = field(default_factory=dict)
    """By partition, what a dry run knows of one that it has not finished. It is not saved: cut off, it begins anew."""
    sealing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose turn it is to save the cursor: it is read and committed by one at a time."""
    _saved_at: float = 0.0

    def wanted(self, chunk: Chunk) -> list[Delivery]:
        """The events that the filters let through."""
        deliveries = map(delivery_of, chunk.records)
        return [delivery for delivery in deliveries if self.asked.wants(delivery.envelope)]

    async def save(self) -> None:
        """A step without any work: the cursor, and how far the run is."""
        with_turn = False
        try:
            async with self.consumer.database.transaction() as tx:
                with_turn = await self.sealing.acquire()  # within: who has the turn never waits for a transaction
                processed = sum(each.processed for each in (self.cursor, *self.ahead.values()))
                await self.job.checkpoint(tx, self.cursor.document(), processed=processed, total=self.cursor.total)
        finally:
            if with_turn:
                self.sealing.release()
        self._saved_at = monotonic()
        self.came_further()

    async def save_now_and_then(self) -> None:
        """The same, if the last time is long enough ago. Raises what ends the run."""
        if monotonic() - self._saved_at >= SAVE_SECONDS:
            await self.save()
        else:
            self.came_further()
            await self.job.raise_if_stopped()

    def came_further(self) -> None:
        """Say so to who watches."""
        self.progress.sees(self.cursor, *self.ahead.values())


class PartitionWork(Protocol):
    """What is done with a partition: it is applied, or foreseen."""

    async def do(self, partition: TopicPartition, reader: Reader) -> None:
        """From the cursor to the end. After an error it may be called again, and goes on at the cursor."""
        ...
