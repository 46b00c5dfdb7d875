"""Appends to the embedded log."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from safevideo_common.broker.delivery import DeliveryTimeouts, check_size
from safevideo_common.broker.embedded import storage as embedded_storage
from safevideo_common.broker.embedded.storage import Append, FetchRange, commit_offsets, encode_headers, records_of
from safevideo_common.broker.embedded.writer import MetadataCache, SqliteStorage, Writer
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import WHOLE, NullClaim, PartitionClaim, PartitionShard
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable


class EmbeddedProducer:
    """See `RoundPublisher`. A message that missed its deadline is written all the same, when the disk has recovered."""

    def __init__(self, catalogue: MetadataCache, writer: Writer, deadlines: DeliveryTimeouts) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._deadlines = deadlines

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset, once the message is fsynced."""
        check_size(message)
        partition = self._partition(message)
        written = self._writer.append([self._append(message, partition)])
        self._deadlines.watch(written)
        return partition, await written

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """A round, in one transaction."""
        for message in messages:
            check_size(message)
        if messages:
            written = self._writer.append([self._append(each, self._partition(each)) for each in messages])
            self._deadlines.watch(written)
            await written

    def _partition(self, message: Message) -> TopicPartition:
        partitions = self._catalogue.existing(message.topic)
        return partitions[partition_of(message.key, len(partitions))]

    def _append(self, message: Message, partition: TopicPartition) -> Append:
        headers = encode_headers(message.headers)
        return Append(self._catalogue.ids[partition], message.key, message.value, headers)


# Reads any range of the embedded log.


class EmbeddedReader:
    """See `Reader`."""

    def __init__(self, catalogue: MetadataCache, file: SqliteStorage) -> None:
        self._catalogue = catalogue
        self._file = file

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """By bisection in each partition."""
        spans = [self._catalogue.kept(partition) for partition in self._catalogue.existing(topic)]

        def find(connection: sqlite3.Connection) -> dict[TopicPartition, int]:
            return {span.partition: embedded_storage.offset_at(connection, span, timestamp_ms) for span in spans}

        return await self._file.ask(find)

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """From memory."""
        return {partition: self._catalogue.starts[partition] for partition in self._catalogue.existing(topic)}

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """From memory."""
        return {partition: self._catalogue.ends[partition] for partition in self._catalogue.existing(topic)}

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """A range; one that begins before the oldest kept record begins with that one."""
        if partition not in self._catalogue.existing(partition.topic):
            raise BrokerUnavailable(f"Topic {partition.topic} has no partition {partition.partition}.")
        kept = self._catalogue.kept(partition)
        span = kept._replace(start=max(offset, kept.start))
        return await self._file.ask(lambda connection: embedded_storage.records(connection, span, max_records))


# Who reads for a consumer group.


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """One subscription of a group."""

    topics: tuple[str, ...]


class GroupCoordinator:
    """The members of every group. A topic belongs to the one that came first, until it leaves; then to the next.

    All members live in one process, so sharing a topic out among them would gain nothing.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._members: defaultdict[str, list[Member]] = defaultdict(list)
        self._on_change = on_change

    @contextmanager
    def joined(self, group: str, topics: Sequence[str]) -> Iterator[Member]:
        """Be a member for as long as the context lasts."""
        member = Member(tuple(topics))
        members = self._members[group]
        members.append(member)
        try:
            yield member
        finally:
            members.remove(member)
            self._on_change()

    def topics_of(self, group: str, member: Member) -> list[str]:
        """The topics that this member owns at this moment."""
        members = self._members[group]
        return [topic for topic in member.topics if next((m for m in members if topic in m.topics), None) is member]


# Reads the embedded log for a consumer group.


class EmbeddedSubscription:
    """See `Subscription`."""

    def __init__(
        self, group: str, member: Member, groups: GroupCoordinator, catalogue: MetadataCache, file: SqliteStorage
    ) -> None:
        self._group = group
        self._member = member
        self._groups = groups
        self._catalogue = catalogue
        self._file = file
        self._positions: dict[TopicPartition, int] = {}
        self._turn = 0

    @property
    def epoch(self) -> int:
        """Always 0: a member keeps its topics until it leaves."""
        return 0

    def hold(self) -> AbstractContextManager[PartitionClaim]:
        """A claim that never ends."""
        return nullcontext(NullClaim())

    async def fetch(self, *, max_records: int, timeout: float, share: PartitionShard = WHOLE) -> Sequence[Record]:
        """The next records; waits for the first of them without asking again and again."""
        try:
            async with asyncio.timeout(timeout) as limit:
                while not (spans := self._unread(share)):
                    await self._catalogue.news()
                limit.reschedule(None)
                return await self._read(spans, max_records)
        except TimeoutError:
            return ()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Done once the offsets are fsynced."""
        owned = set(self._owned())
        forward = {
            partition: offset
            for partition, offset in offsets.items()
            if partition in owned and offset > self._catalogue.committed(self._group, partition)
        }
        if forward:
            by_id = {self._catalogue.ids[partition]: offset for partition, offset in forward.items()}
            await self._file.write(lambda connection: commit_offsets(connection, self._group, by_id))
            self._catalogue.commit(self._group, forward)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """From what is known in memory."""
        ends, committed = self._catalogue.ends, self._catalogue.committed
        return {partition: ends[partition] - committed(self._group, partition) for partition in self._owned()}

    def rewind(self) -> None:
        """Forget the positions: the next fetch begins at what is committed."""
        self._positions.clear()

    def _owned(self) -> list[TopicPartition]:
        topics = self._groups.topics_of(self._group, self._member)
        return [partition for topic in topics for partition in self._catalogue.partitions_of(topic)]

    def _unread(self, share: PartitionShard) -> list[FetchRange]:
        spans = []
        for partition in self._owned():
            if not share.has(partition.partition):
                continue
            start = max(self._positions.get(partition, 0), self._catalogue.committed(self._group, partition))
            kept = self._catalogue.kept(partition)
            if start < kept.end:
                spans.append(kept._replace(start=start))
        return spans

    async def _read(self, spans: Sequence[FetchRange], max_records: int) -> Sequence[Record]:
        # Each fetch begins with another partition, so that a full one cannot starve the rest.
        self._turn = (self._turn + 1) % len(spans)
        turned = [*spans[self._turn :], *spans[: self._turn]]
        found = await self._file.ask(lambda connection: records_of(connection, turned, max_records))
        for record in found:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return found
