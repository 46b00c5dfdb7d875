"""Publishes to Kafka: idempotent, acknowledged by every in-sync replica, within a deadline."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder

from safevideo_common.broker.delivery import (
    RETRY_AFTER_SECONDS,
    DeliveryTimeouts,
    InFlightLimit,
    check_size,
    size_of,
    wait_all,
)
from safevideo_common.broker.kafka.client import (
    GRACE_SECONDS,
    ReconnectingClient,
    run_shielded,
    stop_producer,
    translate_errors,
)
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge, SafeVideoError
from safevideo_common.tasks import cancel_and_wait

# The way of one partition's messages to the broker: one batch under way, the others waiting to be the next.
#
# A lane of our own batches costs a quarter less processor time a message than `AIOKafkaProducer.send`, and never waits
# for room in a batch: what it holds is bounded by the backlog, and each message by its deadline.


OnFailure = Callable[[Exception], None]


class PendingMessage(NamedTuple):
    """A message and the future of its offset."""

    message: Message
    done: "asyncio.Future[int]"


class PartitionSender:
    """For messages that `backlog` has admitted; it releases them when they have arrived or been given up."""

    def __init__(
        self, producer: AIOKafkaProducer, partition: TopicPartition, backlog: InFlightLimit, on_failure: OnFailure
    ) -> None:
        """`on_failure` is told when a batch has failed for good: the producer, with its lanes, must be replaced."""
        self.partition = partition
        self._producer = producer
        self._backlog = backlog
        self._on_failure = on_failure
        self._waiting: deque[PendingMessage] = deque()
        self._task: asyncio.Task[None] | None = None
        self._name = f"kafka-lane-{partition.topic}-{partition.partition}"

    def add(self, waiting: PendingMessage) -> None:
        """Send it with the next batch. Messages keep the order in which they were added."""
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self, seconds: float) -> None:
        """Let what is under way arrive within `seconds`, and give up the rest."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        # Everything that was published in this turn of the event loop travels together.
        batch: Sequence[PendingMessage] = ()
        try:
            while self._waiting:
                builder, batch = self._next_batch()
                if batch:
                    self._acknowledge(batch, await self._send(builder))
                    batch = ()
        except Exception as error:  # noqa: BLE001 - whoever waits hears it, and the producer is replaced
            self._give_up(batch, error)
            self._on_failure(error)
        except asyncio.CancelledError:
            self._give_up(batch, None)
            raise
        finally:
            self._task = None

    async def _send(self, builder: BatchBuilder) -> int:
        # No deadline: an idempotent producer tries for ever, and only the next answer tells what has arrived. Those who
        # wait have deadlines, and the backlog is the bound.
        topic, partition = self.partition
        sent = await self._producer.send_batch(builder, topic, partition=partition)
        return int((await sent).offset)

    def _next_batch(self) -> tuple[BatchBuilder, list[PendingMessage]]:
        builder = self._producer.create_batch()
        taken: list[PendingMessage] = []
        waiting = self._waiting
        while waiting:
            message, done = waiting[0]
            if done.done():  # its deadline has passed: whoever published it was told so and may do it again
                self._backlog.release(1, size_of(message))
            elif not _appended(builder, message):
                break
            else:
                taken.append(waiting[0])
            waiting.popleft()
        return builder, taken

    def _acknowledge(self, batch: Sequence[PendingMessage], offset: int) -> None:
        self._release(batch)
        for _, done in batch:
            if not done.done():
                done.set_result(offset)
            offset += 1

    def _give_up(self, batch: Sequence[PendingMessage], cause: Exception | None) -> None:
        given_up = [*batch, *self._waiting]
        self._waiting.clear()
        self._release(given_up)
        for _, done in given_up:
            if not done.done():
                done.set_exception(_failure(cause))

    def _release(self, batch: Sequence[PendingMessage]) -> None:
        self._backlog.release(len(batch), sum(size_of(message) for message, _ in batch))


def _appended(builder: BatchBuilder, message: Message) -> bool:
    headers = list(message.headers)  # its C code takes no tuple
    return builder.append(timestamp=None, key=message.key, value=message.value, headers=headers) is not None


def _failure(cause: Exception | None) -> SafeVideoError:
    if isinstance(cause, MessageSizeTooLargeError):  # alone in its batch: a full batch is far below every limit
        return PayloadTooLarge("The topic takes no message of this size.")
    failure = BrokerUnavailable("Kafka did not take the message.", retry_after=RETRY_AFTER_SECONDS)
    failure.__cause__ = cause
    return failure


MAX_BATCH_BYTES: Final = 131_072
"""Measured: the batch decides the tail of the latency, while lingering only adds to it."""

REQUEST_TIMEOUT_MS: Final = 10_000
"""Past the 9 s after which a cluster gives a dead broker's partitions to others: then the request goes to them."""


class ProducerSession:
    """A connected producer and the lanes through it."""

    def __init__(self, producer: AIOKafkaProducer, backlog: InFlightLimit, ask_seconds: float) -> None:
        """`ask_seconds` is how long one waits for the partitions of a topic."""
        self.broken: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self.lanes: dict[str, Sequence[PartitionSender]] = {}
        """By topic, one a partition. Their number is that of the topic when it was first used."""
        self._producer = producer
        self._backlog = backlog
        self._ask_seconds = ask_seconds

    async def open_lanes(self, topic: str) -> Sequence[PartitionSender]:
        """Ask for the topic's partitions. Raises `LogUnavailable` when it does not exist or nobody answers."""
        async with translate_errors(f"the partitions of {topic}", self._ask_seconds):
            numbers = await self._producer.partitions_for(topic)
        if topic not in self.lanes:  # several may have asked at once: a partition has one lane
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            self.lanes[topic] = [
                PartitionSender(self._producer, each, self._backlog, self._break) for each in partitions
            ]
        return self.lanes[topic]

    async def close(self) -> None:
        """Let what is under way arrive, or give it up, and end the producer; within about four seconds."""
        await asyncio.gather(*(lane.close(GRACE_SECONDS) for lanes in self.lanes.values() for lane in lanes))
        await stop_producer(self._producer)

    def _break(self, error: Exception) -> None:
        # A batch that failed leaves a gap in the sequence numbers: the broker would refuse all that comes after it.
        if not self.broken.done():
            self.broken.set_exception(error)


class KafkaProducer:
    """See `RoundPublisher`. A message that missed its deadline while under way may be delivered later, by minutes.

    One that was still waiting in its lane when its deadline passed is never sent.
    """

    def __init__(
        self, connection: ReconnectingClient[ProducerSession], backlog: InFlightLimit, deadlines: DeliveryTimeouts
    ) -> None:
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
        lane.add(PendingMessage(message, done))
        return lane.partition, await done

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """A round: its messages are in their lanes in one step, and leave them in one step when it fails."""
        for message in messages:
            check_size(message)
        session = self._connection.session
        for topic in {message.topic for message in messages} - session.lanes.keys():
            await session.open_lanes(topic)
        self._backlog.admit(sum(map(size_of, messages)), len(messages))
        waiting = [PendingMessage(message, self._loop.create_future()) for message in messages]
        futures = [each.done for each in waiting]
        self._deadlines.watch_all(futures)
        for each in waiting:
            lanes = session.lanes[each.message.topic]
            lanes[partition_of(each.message.key, len(lanes))].add(each)
        await wait_all(futures)


@asynccontextmanager
async def open_producer(
    bootstrap_servers: str, client_id: str, backlog: InFlightLimit, ask_seconds: float
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
        await run_shielded(f"kafka-stop-{client_id}", session.close())
