"""The Kafka producer: idempotent, acknowledged by every in-sync replica, with a deadline for each message.

    publish ──▶ PartitionSender, one per partition ──send_batch──▶ aiokafka ──▶ Kafka
                queue of pending messages, one batch in flight

`AIOKafkaProducer.send` is not used, for these reasons:

- A call of `send` waits for room in the current batch of its partition. So the messages of a batch cannot be queued
  in one step of the event loop, and other messages come between them.
- A message that is queued cannot be removed. It would be sent after its deadline, even if the caller has published it
  again. Then the order of first copies is lost.
- `send` takes a quarter more processor time per message.

A queued message whose deadline has passed is never sent, and gives its room back at once. A message in flight at its
deadline may arrive minutes later.

A partition without a leader gets no batch. aiokafka would fail the batch after `REQUEST_TIMEOUT_MS`, and a failed batch
ends the session: every partition would wait for the new one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

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
    Session,
    run_shielded,
    stop_producer,
    translate_errors,
)
from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import UNKNOWN_PARTITION, BatchIncomplete
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge, SafeVideoError
from safevideo_common.tasks import cancel_and_wait

MAX_BATCH_BYTES: Final = 131_072
"""Measured: the batch size determines the tail of the latency. Lingering only adds latency."""

REQUEST_TIMEOUT_MS: Final = 10_000
"""More than the 9 s after which a cluster moves the partitions of a dead broker to another one."""

LEADER_POLL_SECONDS: Final = 0.1
"""Between two requests for the leader of a partition that has none."""

NO_LEADER: Final = (None, -1)


class KafkaProducer:
    """See `BatchProducer`."""

    def __init__(
        self,
        client: "ReconnectingClient[ProducerSession]",
        limit: InFlightLimit,
        timeouts: DeliveryTimeouts,
        partitions: "KnownPartitions",
    ) -> None:
        """`partitions` has the topics that a session of `client` has described."""
        self._client = client
        self._limit = limit
        self._timeouts = timeouts
        self._partitions = partitions
        self._loop = asyncio.get_running_loop()

    def partition_of(self, message: Message) -> TopicPartition:
        """Return the partition by the rule of Kafka's Java client."""
        topic_partitions = self._partitions.get(message.topic)
        if topic_partitions is None:
            return TopicPartition(message.topic, UNKNOWN_PARTITION)
        return topic_partitions[partition_of(message.key, len(topic_partitions))]

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset once every in-sync replica has the message."""
        check_size(message)
        session = self._client.current
        await session.load_partitions((message.topic,))
        size = size_of(message)
        self._limit.acquire(size)
        try:
            pending = PendingMessage(message, self._loop.create_future())
            self._timeouts.watch(pending.done)
            sender = session.enqueue(pending)
            try:
                return sender.partition, await pending.done
            except BaseException:
                sender.drop_given_up()
                raise
        finally:
            self._limit.release(1, size)

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Queue all messages in one step of the event loop, and give up what is left at the deadline in one step."""
        for message in messages:
            check_size(message)
        session = self._client.current
        missing = await session.load_each({message.topic for message in messages})
        failures: dict[int, SafeVideoError] = {
            position: missing[message.topic] for position, message in enumerate(messages) if message.topic in missing
        }
        sent = [position for position in range(len(messages)) if position not in failures]
        errors = await self._send_batch(session, [messages[position] for position in sent])
        failures |= {position: as_failure(error) for position, error in zip(sent, errors, strict=True) if error}
        if failures:
            raise BatchIncomplete(failures)

    async def _send_batch(
        self, session: "ProducerSession", messages: Sequence[Message]
    ) -> Sequence[BaseException | None]:
        size = sum(map(size_of, messages))
        self._limit.acquire(size, len(messages))
        senders: set[PartitionSender] = set()
        try:
            batch = [PendingMessage(message, self._loop.create_future()) for message in messages]
            futures = [pending.done for pending in batch]
            self._timeouts.watch(*futures)
            senders = {session.enqueue(pending) for pending in batch}
            return await wait_all(futures)
        finally:
            for sender in senders:
                sender.drop_given_up()
            self._limit.release(len(messages), size)


class PendingMessage(NamedTuple):
    """A message, and the future of its offset."""

    message: Message
    done: "asyncio.Future[int]"


class PartitionSender:
    """The queue of one partition, and the task that sends it: one batch in flight, the other messages wait.

    The limit of the producer bounds the queue: a message has room there until its future is done.
    """

    def __init__(
        self, producer: AIOKafkaProducer, partition: TopicPartition, on_failure: Callable[[Exception], None]
    ) -> None:
        """`on_failure` is called when a batch has failed for good. Then the session must be replaced."""
        self.partition = partition
        self._producer = producer
        self._on_failure = on_failure
        self._queue: deque[PendingMessage] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, pending: PendingMessage) -> None:
        """Send the message with the next batch. Messages keep the order in which they were added."""
        self._queue.append(pending)
        if self._task is None:  # it starts after this step of the event loop, with all that is published in it
            topic, partition = self.partition
            self._task = asyncio.create_task(self._send_all(), name=f"kafka-sender-{topic}-{partition}")

    def drop_given_up(self) -> None:
        """Drop the oldest messages whose callers wait no more, so that a queue that does not move stays small.

        Deadlines rise within a queue, so nothing stays behind for longer than one deadline.
        """
        queue = self._queue
        while queue and queue[0].done.done():
            queue.popleft()

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for messages in flight, and give up the rest."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _send_all(self) -> None:
        batch: Sequence[PendingMessage] = ()
        try:
            while self._queue:
                await self._wait_for_leader()
                builder, batch = self._next_batch()
                if batch:
                    self._acknowledge(batch, await self._send(builder))
                    batch = ()
        except Exception as error:  # noqa: BLE001 - the waiting callers get it, and the session is replaced
            self._give_up(batch, error)
            self._on_failure(error)
        except asyncio.CancelledError:
            self._give_up(batch, None)
            raise
        finally:
            self._task = None

    def _next_batch(self) -> tuple[BatchBuilder, list[PendingMessage]]:
        builder = self._producer.create_batch()
        batch: list[PendingMessage] = []
        queue = self._queue
        while queue:
            message, done = queue[0]
            if not done.done():  # else its deadline has passed: the caller may publish it again
                if not _append(builder, message):
                    break
                batch.append(queue[0])
            queue.popleft()
        return builder, batch

    async def _wait_for_leader(self) -> None:
        client = self._producer.client
        while client.cluster.leader_for_partition(self.partition) in NO_LEADER:
            await client.force_metadata_update()
            await asyncio.sleep(LEADER_POLL_SECONDS)
            self.drop_given_up()

    async def _send(self, builder: BatchBuilder) -> int:
        # Without a timeout: an idempotent producer tries for ever, and only the next answer says what has arrived.
        # The callers have deadlines, and `limit` bounds the queue.
        topic, partition = self.partition
        sent = await self._producer.send_batch(builder, topic, partition=partition)
        return int((await sent).offset)

    def _acknowledge(self, batch: Sequence[PendingMessage], offset: int) -> None:
        for _, done in batch:
            if not done.done():
                done.set_result(offset)
            offset += 1

    def _give_up(self, batch: Sequence[PendingMessage], cause: Exception | None) -> None:
        queued = list(self._queue)
        self._queue.clear()
        # Only what was sent can be too large.
        for given_up, failure in ((batch, _failure(cause)), (queued, _failure(None))):
            for _, done in given_up:
                if not done.done():
                    done.set_exception(failure)


def _append(builder: BatchBuilder, message: Message) -> bool:
    headers = list(message.headers)  # the C code of aiokafka takes no tuple
    return builder.append(timestamp=None, key=message.key, value=message.value, headers=headers) is not None


def as_failure(error: BaseException) -> SafeVideoError:
    """Return the error of one message of a batch."""
    return error if isinstance(error, SafeVideoError) else _failure(None)


def _failure(cause: Exception | None) -> SafeVideoError:
    if isinstance(cause, MessageSizeTooLargeError):  # alone in its batch: a full batch is far below every limit
        return PayloadTooLarge("The topic accepts no message of this size.")
    failure = BrokerUnavailable("Kafka did not accept the message.", retry_after=RETRY_AFTER_SECONDS)
    failure.__cause__ = cause
    return failure


KnownPartitions = dict[str, Sequence[TopicPartition]]
"""The partitions of each topic in use. It outlives the sessions of a producer."""


class ProducerSession(Session):
    """A connected producer with its senders, one per partition of each topic in use."""

    def __init__(self, producer: AIOKafkaProducer, partitions: KnownPartitions, metadata_seconds: float) -> None:
        """`metadata_seconds` bounds the request for the partitions of a topic."""
        super().__init__()
        self._producer = producer
        self._partitions = partitions
        self._metadata_seconds = metadata_seconds
        self._senders: dict[str, Sequence[PartitionSender]] = {}

    async def load_partitions(self, topics: Iterable[str]) -> None:
        """Load the partitions of new topics. Their number then stays fixed for this session.

        Raises `BrokerUnavailable` if a topic does not exist or no broker answers.
        """
        for topic in topics:
            if topic in self._senders:
                continue
            async with translate_errors(f"the partitions of {topic}", self._metadata_seconds):
                numbers = await self._producer.partitions_for(topic)
            if topic not in self._senders:  # or a concurrent call was first: a partition has one sender
                # A failed batch leaves a gap in the sequence numbers, and the broker refuses all later batches.
                # So each failure ends the session.
                self._partitions[topic] = [TopicPartition(topic, number) for number in sorted(numbers)]
                self._senders[topic] = [
                    PartitionSender(self._producer, partition, self.fail) for partition in self._partitions[topic]
                ]

    async def load_each(self, topics: Collection[str]) -> Mapping[str, BrokerUnavailable]:
        """Load the partitions of new topics, and return the errors of those that have none."""
        results = await asyncio.gather(
            *(self.load_partitions((topic,)) for topic in topics), return_exceptions=True
        )  # an error of one topic does not end the others
        missing: dict[str, BrokerUnavailable] = {}
        for topic, error in zip(topics, results, strict=True):
            if isinstance(error, BrokerUnavailable):
                missing[topic] = error
            elif error is not None:
                raise error
        return missing

    def enqueue(self, pending: PendingMessage) -> PartitionSender:
        """Queue a message of a loaded topic, and return the sender of its partition."""
        senders = self._senders[pending.message.topic]
        sender = senders[partition_of(pending.message.key, len(senders))]
        sender.add(pending)
        return sender

    async def close(self) -> None:
        """Wait for messages in flight, or give them up, and stop the producer; within about four seconds."""
        senders = [sender for of_topic in self._senders.values() for sender in of_topic]
        await asyncio.gather(*(sender.close(GRACE_SECONDS) for sender in senders))
        await stop_producer(self._producer)


@asynccontextmanager
async def open_producer(
    bootstrap_servers: str,
    security: KafkaSecurity,
    client_id: str,
    partitions: KnownPartitions,
    metadata_seconds: float,
) -> AsyncIterator[ProducerSession]:
    """Open a connected producer. Raises an error of aiokafka if no broker answers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=MAX_BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **security.arguments(),
    )
    session = ProducerSession(producer, partitions, metadata_seconds)
    try:
        await producer.start()
        yield session
    finally:
        await run_shielded(f"kafka-stop-{client_id}", session.close())
