"""The message broker as services see it. The adapters are `kafka/` and `embedded/`.

Publish one message (`Producer.publish`)
    Guarantee: when it returns, the message is durable: on every in-sync replica of Kafka, or fsynced.
    Guarantee: messages of one key that were published one after the other keep their order.
    Not guaranteed: exactly-once. After `BrokerUnavailable` the message may still arrive. The caller publishes
        it again under the same event id, and consumers remove the duplicate.

Publish a batch (`BatchProducer.publish_batch`)
    Guarantee: per key, the first copies of the messages are in the order of the batches, even after cancellation.
    Guarantee: a partition that takes no writes fails its own messages only. The others are acknowledged.
    Under: the caller publishes what was not acknowledged again, before anything later of the same key.
    Not guaranteed: atomicity. A message that was not acknowledged may arrive, and retries create duplicates.

Consume in a group (`Subscription`)
    Guarantee: at-least-once. Each partition has one owner at a time, and its records come in order.
    Guarantee: `commit` never moves a group backwards.
    Under: the consumer commits a record only after it has processed it.
    Guarantee: after partitions changed their owner, `PartitionClaim.check` raises.
    Not guaranteed: exactly-once. Another member may process the batch between a check and the end of the
        transaction around it, so processing is idempotent.

Read a range (`Reader`)
    Guarantee: records come in order, without gaps between the oldest record and the end.
    Not guaranteed: that old records exist. Retention deletes them.

Not covered: a topic that gets more partitions, or is made anew, while it has records. A producer learns the new number
when it connects again, so two producers may disagree for that time, and records of one key are then in two partitions.
Stop webhook-ingest and let the workers finish first. An event whose id is made of topic, partition and offset may meet
an old inbox row after a topic was made anew.

Bounds: each call ends within its timeout or raises. Opening a producer, a subscription or a reader succeeds while
the broker is unavailable; their methods raise `BrokerUnavailable` until it is back.

Tested on both adapters: `libs/common/tests/integration/broker/test_conformance.py` and `test_reader_conformance.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from safevideo_common.broker.types import (
    MAX_VALUE_BYTES,
    Message,
    Record,
    Topic,
    TopicPartition,
    TopicState,
)
from safevideo_common.errors import BrokerUnavailable, SafeVideoError

READ_BYTES: Final = 4 * MAX_VALUE_BYTES
"""A read stops after its values reach this size, so that large records do not fill the memory."""

ACKNOWLEDGED_WITHIN_SECONDS: Final = 2.0
"""The default deadline of a producer for an acknowledgement."""


UNKNOWN_PARTITION: Final = -1
"""The partition of a message whose topic has not been described yet: no broker answered, or there is no topic."""


class BatchIncomplete(BrokerUnavailable):
    """Some messages of a batch are not acknowledged; all others are durable.

    `failures` has an error for each position in the batch: `BrokerUnavailable`, or `PayloadTooLarge`.
    """

    def __init__(self, failures: Mapping[int, SafeVideoError]) -> None:
        first = next(iter(failures.values()))
        super().__init__(first.message, retry_after=first.retry_after)
        self.failures = failures


@dataclass(frozen=True, slots=True)
class PartitionShard:
    """The partitions of one of several consume loops: those with `partition % of == index`, in every topic.

    Shards of one subscription are fetched independently. All records of a key are in one shard.
    """

    index: int
    of: int

    def contains(self, partition: int) -> bool:
        """Return True if the partition of this number is in the shard."""
        return partition % self.of == self.index


ALL_PARTITIONS: Final = PartitionShard(0, 1)


class PartitionsLost(Exception):
    """Another member may own the partitions of a fetched batch. That member reads the batch again."""


class PartitionClaim(Protocol):
    """The right to process a fetched batch."""

    def check(self) -> None:
        """Raise `PartitionsLost` if another member may own the partitions now."""
        ...


class NullClaim:
    """A claim that never ends, for records that no other member can read."""

    __slots__ = ()

    def check(self) -> None:
        """See `PartitionClaim`."""


class Producer(Protocol):
    """Publishes messages. Kafka calls this "produce"."""

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Publish a message; return its partition and offset once it is durable.

        Raises `BrokerUnavailable` if no acknowledgement comes within the deadline of the producer, and
        `PayloadTooLarge` for a value over `MAX_VALUE_BYTES`.
        """
        ...


class PartitionedProducer(Producer, Protocol):
    """A producer that tells in advance where a message goes."""

    def partition_of(self, message: Message) -> TopicPartition:
        """Return the partition to which the message goes; its number is `UNKNOWN_PARTITION` if that is not known.

        Known partitions stay known while the broker is unavailable.
        """
        ...


class BatchProducer(PartitionedProducer, Protocol):
    """A producer that also publishes batches."""

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Publish the messages in order under one deadline; return once all of them are durable.

        Raises `BatchIncomplete` at the deadline if some were not acknowledged. Raises `BrokerUnavailable` if no
        message was sent, and `PayloadTooLarge` for a value over `MAX_VALUE_BYTES`, before it publishes anything.
        """
        ...


class Subscription(Protocol):
    """A member of a consumer group. The members share the partitions; each partition has one owner at a time."""

    @property
    def generation(self) -> int:
        """A number that rises whenever partitions may have changed their owner."""
        ...

    async def fetch(
        self, *, max_records: int, timeout: float, shard: PartitionShard = ALL_PARTITIONS
    ) -> Sequence[Record]:
        """Return the next records of `shard`, at most `max_records`, in order within each partition.

        Waits up to `timeout` seconds for the first record; returns an empty sequence if none comes. Several shards
        may be fetched at once. For a shard that nobody fetches, a bounded number of bytes is read ahead. Raises
        `BrokerUnavailable`.
        """
        ...

    def processing(self) -> AbstractContextManager[PartitionClaim]:
        """Mark the last fetched batch as in flight, and return the claim to it.

        Enter the block right after `fetch`, with no `await` between. Before partitions change their owner, the
        broker waits a bounded time for the end of the block. So the batch can be processed and committed, and nobody
        reads it again. A block that takes longer loses its claim.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offset to read of each partition. Never moves a group backwards.

        Ignores partitions that this member has lost: their new owner reads the records again. Raises
        `BrokerUnavailable` if the outcome is unknown; then records may be read twice, but none is lost.
        """
        ...

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Return for each owned partition the number of records that the group has not committed."""
        ...

    def seek_to_committed(self) -> None:
        """Start the next fetch at the committed offsets. Fetched records without a commit come again."""
        ...


class Reader(Protocol):
    """Reads any range of a topic outside of every group. The replay and the event browser use it."""

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Return per partition the offset of the first record at or after the time; the end offset if none is."""
        ...

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return per partition the offset of the oldest record; the end offset if there is none."""
        ...

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return per partition the offset of the next message."""
        ...

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """Return up to `max_records` records from `offset` on; empty only at the end. Raises `BrokerUnavailable`.

        If retention has deleted `offset`, starts at the oldest record.
        """
        ...


class Broker(Protocol):
    """A factory of producers, subscriptions and readers. Each is a context manager that owns its connections."""

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create the topics that do not exist. Does not change existing ones. Raises `BrokerUnavailable`."""
        ...

    async def topic_states(self, names: Collection[str]) -> Sequence[TopicState]:
        """Return the states of those topics that exist. Creates none. Raises `BrokerUnavailable`."""
        ...

    async def probe(self) -> None:
        """Return if the broker answers. Raises `BrokerUnavailable` if it does not within the deadline of the probe."""
        ...

    def producer(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AbstractAsyncContextManager[BatchProducer]:
        """Open a producer. Its deadline is `acknowledged_within` seconds from each call of `publish`."""
        ...

    def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AbstractAsyncContextManager[Subscription]:
        """Join `group` for `topics`. A group without a committed offset starts at the oldest record."""
        ...

    def reader(self, client_id: str) -> AbstractAsyncContextManager[Reader]:
        """Open a reader outside of every group."""
        ...
