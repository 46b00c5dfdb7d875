"""The state of the embedded broker in memory: partitions, watermarks, committed offsets, consumer groups.

One process writes the file, so this cache always agrees with what is committed to it. For one event loop.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.embedded.storage import FetchRange, PartitionRow
from safevideo_common.broker.types import MAX_RECORD_BYTES, TopicPartition, TopicState
from safevideo_common.errors import BrokerUnavailable


@dataclass(slots=True)
class _Partition:
    partition: TopicPartition
    id: int
    low_watermark: int
    high_watermark: int
    retention_ms: int


class MetadataCache:
    """Partitions with their watermarks, and the committed offsets of each group."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._by_id: dict[int, _Partition] = {}
        self._by_topic: defaultdict[str, list[TopicPartition]] = defaultdict(list)
        self._committed: defaultdict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self._changed = asyncio.Event()

    def load(self, rows: Iterable[PartitionRow], committed: Iterable[tuple[str, int, int]]) -> None:
        """Load partitions and committed offsets from the file, before anything is written to it."""
        self.add(rows)
        for group, partition_id, offset in committed:
            self._committed[group][self._by_id[partition_id].partition] = offset

    def add(self, rows: Iterable[PartitionRow]) -> None:
        """Add new partitions. Does not change existing ones."""
        for row in rows:
            if row.partition not in self._partitions:
                added = _Partition(row.partition, row.id, row.start, row.end, row.retention_ms)
                self._partitions[row.partition] = self._by_id[row.id] = added
                self._by_topic[row.partition.topic].append(row.partition)
        self.notify()

    def all_partitions(self) -> list[TopicPartition]:
        """Return the partitions of all topics."""
        return list(self._partitions)

    def partitions_of(self, topic: str) -> Sequence[TopicPartition]:
        """Return the partitions of the topic in order. Empty if it does not exist."""
        return self._by_topic.get(topic, ())

    def existing_partitions(self, topic: str) -> Sequence[TopicPartition]:
        """Return the partitions of the topic in order. Raises `BrokerUnavailable` if it does not exist."""
        if not (partitions := self.partitions_of(topic)):
            raise BrokerUnavailable(f"Topic {topic} does not exist.", retry_after=RETRY_AFTER_SECONDS)
        return partitions

    def topic_state(self, topic: str) -> TopicState | None:
        """Return the state of the topic, or None if it does not exist."""
        if not (partitions := self.partitions_of(topic)):
            return None
        retention_ms = self.retention_ms(partitions[0])
        return TopicState(
            topic,
            len(partitions),
            replicas=1,
            retention_ms=retention_ms,
            max_record_bytes=MAX_RECORD_BYTES,
            is_compacted=False,
            min_in_sync_replicas=1,
            allows_unclean_election=False,
            brokers=1,
        )

    def partition_id(self, partition: TopicPartition) -> int:
        """Return the id of the partition in the file."""
        return self._partitions[partition].id

    def retention_ms(self, partition: TopicPartition) -> int:
        """Return how long the partition keeps records."""
        return self._partitions[partition].retention_ms

    def low_watermark(self, partition: TopicPartition) -> int:
        """Return the offset of the oldest record that may be read."""
        return self._partitions[partition].low_watermark

    def high_watermark(self, partition: TopicPartition) -> int:
        """Return the offset of the next record."""
        return self._partitions[partition].high_watermark

    def available_range(self, partition: TopicPartition) -> FetchRange:
        """Return all records of the partition, without those that retention is about to delete."""
        state = self._partitions[partition]
        return FetchRange(partition, state.id, state.low_watermark, state.high_watermark)

    def raise_low_watermark(self, partition: TopicPartition, offset: int) -> None:
        """Hide records before `offset`, because retention is about to delete them."""
        self._partitions[partition].low_watermark = offset

    def raise_high_watermarks(self, ends: Mapping[int, int]) -> None:
        """Set end offsets by partition id after a commit, and wake all waiting fetches."""
        for partition_id, end in ends.items():
            self._by_id[partition_id].high_watermark = end
        self.notify()

    def committed(self, group: str, partition: TopicPartition) -> int:
        """Return the next offset of the group: the low watermark if it has no commit, or an older one."""
        return max(self._committed[group].get(partition, 0), self.low_watermark(partition))

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the next offsets of the group after a commit to the file. Never moves backwards."""
        committed = self._committed[group]
        for partition, offset in offsets.items():
            committed[partition] = max(offset, committed.get(partition, 0))

    def notify(self) -> None:
        """Wake all waiting fetches: there are new records or topics, or partitions have changed their owner."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_data(self) -> None:
        """Wait for the next notification."""
        await self._changed.wait()


class GroupCoordinator:
    """The members of each consumer group. A topic belongs to its first member until that leaves.

    All members live in one process, so it would gain nothing to share the partitions of a topic.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._groups: defaultdict[str, list[GroupMembership]] = defaultdict(list)
        self._on_change = on_change

    @contextmanager
    def join(self, group: str, topics: Sequence[str]) -> Iterator["GroupMembership"]:
        """Join the group for the time of the block."""
        members = self._groups[group]
        membership = GroupMembership(group, topics, members)
        members.append(membership)
        try:
            yield membership
        finally:
            members.remove(membership)
            self._on_change()


class GroupMembership:
    """A member of a group."""

    def __init__(self, group: str, topics: Sequence[str], members: Sequence["GroupMembership"]) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._members = members

    def owned_topics(self) -> list[str]:
        """Return the topics that this member owns now."""
        return [topic for topic in self.topics if self._owner_of(topic) is self]

    def _owner_of(self, topic: str) -> "GroupMembership | None":
        return next((member for member in self._members if topic in member.topics), None)
