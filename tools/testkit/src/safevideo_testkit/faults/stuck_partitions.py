"""A producer of a broker on which some partitions take no writes, and of one that is slow."""

import asyncio
from collections.abc import Callable, Sequence

from safevideo_common.broker.port import UNKNOWN_PARTITION, BatchIncomplete, BatchProducer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable


class StuckPartitions:
    """A producer in front of a real one. Messages of `stuck` partitions fail at the deadline and never arrive."""

    def __init__(self, producer: BatchProducer, seconds: float) -> None:
        """`seconds` is the deadline of both."""
        self.stuck: set[int] = set()
        self.attempts = 0
        """Messages that failed."""
        self.knows_partitions = True
        self._producer = producer
        self._seconds = seconds

    def partition_of(self, message: Message) -> TopicPartition:
        """Return what the real producer says, or that it is not known."""
        if not self.knows_partitions:
            return TopicPartition(message.topic, UNKNOWN_PARTITION)
        return self._producer.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Publish, unless the partition is stuck."""
        if self._is_stuck(message):
            raise await self._deadline(1)
        return await self._producer.publish(message)

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Publish the messages of the other partitions."""
        stuck = [position for position, each in enumerate(messages) if self._is_stuck(each)]
        await self._producer.publish_batch([each for each in messages if not self._is_stuck(each)])
        if stuck:
            raise BatchIncomplete(dict.fromkeys(stuck, await self._deadline(len(stuck))))

    def _is_stuck(self, message: Message) -> bool:
        return self.partition_of(message).partition in self.stuck

    async def _deadline(self, messages: int) -> BrokerUnavailable:
        self.attempts += messages
        await asyncio.sleep(self._seconds)
        return BrokerUnavailable("the partition takes no writes", retry_after=1)


class SlowProducer:
    """A producer that has acknowledged only the first `in_time` messages of a batch at the deadline."""

    def __init__(self, producer: BatchProducer, in_time: int, on_batch: Callable[[int], None]) -> None:
        """Call `on_batch` with the size of each batch."""
        self._producer = producer
        self._in_time = in_time
        self._on_batch = on_batch

    def partition_of(self, message: Message) -> TopicPartition:
        """Return what the real producer says."""
        return self._producer.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Publish in time."""
        return await self._producer.publish(message)

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Publish the first messages."""
        self._on_batch(len(messages))
        await self._producer.publish_batch(messages[: self._in_time])
        if late := range(self._in_time, len(messages)):
            raise BatchIncomplete(dict.fromkeys(late, BrokerUnavailable("late", retry_after=1)))
