"""The event log as the services see it. Kafka is one implementation, the embedded log the other.

What is promised here is tested on both, in `libs/common/tests/integration/messaging`: `test_log_conformance.py` and
`test_reader_conformance.py`.
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

READ_BYTES: Final = 4 * MAX_VALUE_BYTES
"""Once the values of a read have reached this, it gives what it has: so many large ones do not fill the memory."""

ACKNOWLEDGED_WITHIN_SECONDS: Final = 2.0
"""How long a publisher waits for its acknowledgement when nobody says otherwise."""


# What is made for each event is a tuple: a frozen dataclass takes four times as long to make.


@dataclass(frozen=True, slots=True)
class PartitionShard:
    """A part of a member's partitions: those whose number, divided by `of`, leaves `index`. It is read by itself."""

    index: int
    of: int

    def has(self, partition: int) -> bool:
        """Whether the partition of this number belongs to it, whatever its topic: a key is in one share only."""
        return partition % self.of == self.index


WHOLE: Final = PartitionShard(0, 1)


class PartitionsLost(Exception):
    """What was fetched may belong to another member by now, who reads it again."""


class PartitionClaim(Protocol):
    """The right to what was fetched."""

    def check(self) -> None:
        """Raises `PartitionsLost` once another member may have taken over."""
        ...


class NullClaim:
    """A claim that never ends: nobody else can have what it is to."""

    __slots__ = ()

    def check(self) -> None:
        """See `PartitionClaim`."""


class Producer(Protocol):
    """Writes to the log."""

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset once the message is safe: on every in-sync replica, or fsynced.

        Raises `LogUnavailable` when no acknowledgement came within the publisher's deadline. The message may arrive
        all the same, so a caller that publishes it again uses the same id. Raises `PayloadTooLarge` for a value over
        `MAX_VALUE_BYTES`.
        """
        ...


class BatchProducer(Producer, Protocol):
    """Writes many messages that belong together, too."""

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish one round, in order, under one deadline; return once all of it is safe.

        Raises `LogUnavailable` when not all of it was acknowledged within the publisher's deadline; any part of it may
        arrive all the same. Whatever happens, also when this is cancelled: as long as the caller publishes a round that
        failed again, whole, before anything that follows it, the first occurrences of a key's messages stand in the log
        in the order of the rounds. What is published again makes duplicates, no more.

        Raises `PayloadTooLarge` for a value over `MAX_VALUE_BYTES` before anything is published; or later, when the log
        itself takes no message of its size, which says nothing about the others.
        """
        ...


class Subscription(Protocol):
    """One member of a consumer group. Partitions are shared out among the members; each has one owner at a time."""

    @property
    def epoch(self) -> int:
        """Rises whenever partitions may have changed hands."""
        ...

    async def fetch(self, *, max_records: int, timeout: float, share: PartitionShard = WHOLE) -> Sequence[Record]:
        """At most `max_records` records of `share` after the last fetched ones, in order within each partition.

        Waits up to `timeout` seconds for the first; an empty result means that there was none. Several shares may be
        fetched at once; of a share that nobody fetches, a bounded number of bytes is read ahead. Raises
        `LogUnavailable`.
        """
        ...

    def hold(self) -> AbstractContextManager[PartitionClaim]:
        """The claim to what the last fetch gave; entered right after it, with nothing awaited in between.

        Before partitions change hands, the log waits a moment for the end of the block: so what is applied there is
        committed as well, and need not be read again. A block that takes longer loses its claim.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Record the next offset to read, per partition. Never moves a group backwards.

        A partition that this member has lost is passed over: its new owner reads the records again.
        Raises `LogUnavailable` when the outcome is unknown; the price is records read twice, never records lost.
        """
        ...

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Records of each owned partition that are not yet committed by the group."""
        ...

    def rewind(self) -> None:
        """Fetch again from the last committed offsets, dropping what was fetched and not committed since."""
        ...


class Reader(Protocol):
    """Reads any range of a topic without a group: what replay and the event browser stand on."""

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Per partition the offset of the first record at or after the moment; the end offset where there is none."""
        ...

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Per partition the offset of the oldest record that is kept; the end offset where none is."""
        ...

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Per partition the offset that the next message will get."""
        ...

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """Up to `max_records` records from `offset` on; empty only at the end. Raises `LogUnavailable`.

        Where `offset` is no longer kept it begins with the oldest record that is.
        """
        ...


class Broker(Protocol):
    """The whole log: a factory of the three roles. Each role is a context manager that owns its connections."""

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; leave alone what exists."""
        ...

    async def topic_states(self, names: Collection[str]) -> Sequence[TopicState]:
        """Those of the topics that exist, as they are. Creates none. Raises `LogUnavailable`."""
        ...

    async def probe(self) -> None:
        """Return when the log answers; raise `LogUnavailable` when it does not within the probe's deadline."""
        ...

    def publisher(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AbstractAsyncContextManager[BatchProducer]:
        """A publisher whose deadline is `acknowledged_within` seconds from the call of `publish`.

        Entering succeeds while the log is away: publishing then raises until it is back.
        """
        ...

    def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AbstractAsyncContextManager[Subscription]:
        """Join `group` for `topics`. A group without a committed offset starts at the beginning."""
        ...

    def reader(self, client_id: str) -> AbstractAsyncContextManager[Reader]:
        """A reader outside of every group."""
        ...
