"""What the event loop knows without asking the file: topics, ends, committed offsets, and when more has come."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS
from safevideo_common.messaging.embedded import reading
from safevideo_common.messaging.port import MAX_RECORD_BYTES, TopicPartition, TopicState


class Catalogue:
    """Mirrors what is committed to the file, since one process writes it. For one event loop."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.ids: dict[TopicPartition, int] = {}
        self.retention_ms: dict[TopicPartition, int] = {}
        self._by_topic: defaultdict[str, list[TopicPartition]] = defaultdict(list)
        self._by_id: dict[int, TopicPartition] = {}
        self._committed: defaultdict[str, dict[TopicPartition, int]] = defaultdict(dict)
        self._news = asyncio.Event()

    def load(self, connection: sqlite3.Connection) -> None:
        """Take everything from the file, before anything is written to it."""
        self.add(reading.partitions(connection))
        for group, partition_id, offset in reading.committed(connection):
            self._committed[group][self._by_id[partition_id]] = offset

    def add(self, stored: Iterable[reading.Stored]) -> None:
        """Take those partitions that are new."""
        for each in stored:
            if each.partition not in self.ids:
                self.starts[each.partition] = each.start
                self.ends[each.partition] = each.end
                self.ids[each.partition] = each.id
                self.retention_ms[each.partition] = each.retention_ms
                self._by_id[each.id] = each.partition
                self._by_topic[each.partition.topic].append(each.partition)

    def partitions_of(self, topic: str) -> Sequence[TopicPartition]:
        """In order; none while the topic was not created."""
        return self._by_topic.get(topic, ())

    def state_of(self, topic: str) -> TopicState | None:
        """None when there is none."""
        if not (partitions := self.partitions_of(topic)):
            return None
        retention_ms = self.retention_ms[partitions[0]]
        return TopicState(topic, len(partitions), 1, retention_ms, MAX_RECORD_BYTES, is_compacted=False)

    def existing(self, topic: str) -> Sequence[TopicPartition]:
        """The same, but raises `LogUnavailable` when there are none."""
        if not (partitions := self.partitions_of(topic)):
            raise LogUnavailable(f"Topic {topic} does not exist.", retry_after=RETRY_AFTER_SECONDS)
        return partitions

    def kept(self, partition: TopicPartition) -> reading.Span:
        """All records of a partition. Those that retention is about to delete are not among them."""
        return reading.Span(partition, self.ids[partition], self.starts[partition], self.ends[partition])

    def appended(self, moved: Mapping[int, int]) -> None:
        """Records were committed; whoever waits for news goes on."""
        for partition_id, end in moved.items():
            self.ends[self._by_id[partition_id]] = end
        self.announce()

    def announce(self) -> None:
        """Wake whoever waits: there are records, or partitions have changed hands."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait for the next announcement."""
        await self._news.wait()

    def committed(self, group: str, partition: TopicPartition) -> int:
        """The group's next offset: the oldest record that is kept when it has committed none, or one long gone."""
        return max(self._committed[group].get(partition, 0), self.starts[partition])

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Mirror what was committed to the file: steps forward only."""
        known = self._committed[group]
        for partition, offset in offsets.items():
            known[partition] = max(offset, known.get(partition, 0))
