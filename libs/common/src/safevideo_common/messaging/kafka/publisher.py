"""Publishes to Kafka: idempotent, acknowledged by every in-sync replica, within a deadline."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from aiokafka import AIOKafkaProducer

from safevideo_common.messaging.backlog import Backlog, check_size, size_of
from safevideo_common.messaging.deadlines import Deadlines, all_done
from safevideo_common.messaging.kafka.connection import GRACE_SECONDS, Connection, answering
from safevideo_common.messaging.kafka.lane import Lane, Waiting
from safevideo_common.messaging.kafka.stopping import stop_producer, uninterrupted
from safevideo_common.messaging.partitioner import partition_of
from safevideo_common.messaging.port import Message, TopicPartition

MAX_BATCH_BYTES: Final = 131_072
"""Measured: the batch decides the tail of the latency, while lingering only adds to it."""

REQUEST_TIMEOUT_MS: Final = 10_000
"""Past the 9 s after which a cluster gives a dead broker's partitions to others: then the request goes to them."""


class ProducerSession:
    """A connected producer and the lanes through it."""

    def __init__(self, producer: AIOKafkaProducer, backlog: Backlog, ask_seconds: float) -> None:
        """`ask_seconds` is how long one waits for the partitions of a topic."""
        self.broken: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self.lanes: dict[str, Sequence[Lane]] = {}
        """By topic, one a partition. Their number is that of the topic when it was first used."""
        self._producer = producer
        self._backlog = backlog
        self._ask_seconds = ask_seconds

    async def open_lanes(self, topic: str) -> Sequence[Lane]:
        """Ask for the topic's partitions. Raises `LogUnavailable` when it does not exist or nobody answers."""
        async with answering(f"the partitions of {topic}", self._ask_seconds):
            numbers = await self._producer.partitions_for(topic)
        if topic not in self.lanes:  # several may have asked at once: a partition has one lane
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            self.lanes[topic] = [Lane(self._producer, each, self._backlog, self._break) for each in partitions]
        return self.lanes[topic]

    async def close(self) -> None:
        """Let what is under way arrive, or give it up, and end the producer; within about four seconds."""
        await asyncio.gather(*(lane.close(GRACE_SECONDS) for lanes in self.lanes.values() for lane in lanes))
        await stop_producer(self._producer)

    def _break(self, error: Exception) -> None:
        # A batch that failed leaves a gap in the sequence numbers: the broker would refuse all that comes after it.
        if not self.broken.done():
            self.broken.set_exception(error)


class KafkaPublisher:
    """See `RoundPublisher`. A message that missed its deadline while under way may be delivered later, by minutes.

    One that was still waiting in its lane when its deadline passed is never sent.
    """

    def __init__(self, connection: Connection[ProducerSession], backlog: Backlog, deadlines: Deadlines) -> None:
        self._connection = connection
        self._backlog = backlog
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset, once every in-sync replica has it."""
        check_size(message)
        session = self._connection.session
        lanes = session.lanes.get(message.topic) or await session.open_lanes(message.topic)
        lane = lanes[partition_of(message.key, len(lanes))]
        self._backlog.admit(size_of(message))
        done: asyncio.Future[int] = self._loop.create_future()
        self._deadlines.watch(done)
        lane.add(Waiting(message, done))
        return lane.partition, await done

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """A round: its messages are in their lanes in one step, and leave them in one step when it fails."""
        for message in messages:
            check_size(message)
        session = self._connection.session
        for topic in {message.topic for message in messages} - session.lanes.keys():
            await session.open_lanes(topic)
        self._backlog.admit(sum(map(size_of, messages)), len(messages))
        waiting = [Waiting(message, self._loop.create_future()) for message in messages]
        futures = [each.done for each in waiting]
        self._deadlines.watch_all(futures)
        for each in waiting:
            lanes = session.lanes[each.message.topic]
            lanes[partition_of(each.message.key, len(lanes))].add(each)
        await all_done(futures)


@asynccontextmanager
async def producing(
    bootstrap_servers: str, client_id: str, backlog: Backlog, ask_seconds: float
) -> AsyncIterator[ProducerSession]:
    """One producer, from its connecting to its end. Raises when no broker answers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=MAX_BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    session = ProducerSession(producer, backlog, ask_seconds)
    try:
        await producer.start()
        yield session
    finally:
        await uninterrupted(f"kafka-stop-{client_id}", session.close())
