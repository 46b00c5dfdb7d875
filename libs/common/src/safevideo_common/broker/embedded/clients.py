"""The clients of the embedded broker: producer, subscription, reader."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from safevideo_common.broker.delivery import DeliveryTimeouts, check_size
from safevideo_common.broker.embedded import storage
from safevideo_common.broker.embedded.metadata import GroupMembership, MetadataCache
from safevideo_common.broker.embedded.storage import Append, FetchRange
from safevideo_common.broker.embedded.writer import SqliteStorage
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import (
    ALL_PARTITIONS,
    UNKNOWN_PARTITION,
    BatchIncomplete,
    NullClaim,
    PartitionClaim,
    PartitionShard,
)
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable, SafeVideoError


class EmbeddedProducer:
    """See `BatchProducer`. A message whose deadline has passed is still written, once the disk works again."""

    def __init__(self, metadata: MetadataCache, file: SqliteStorage, timeouts: DeliveryTimeouts) -> None:
        self._metadata = metadata
        self._file = file
        self._timeouts = timeouts

    def partition_of(self, message: Message) -> TopicPartition:
        """Return the partition by the same rule as Kafka's."""
        partitions = self._metadata.partitions_of(message.topic)
        if not partitions:
            return TopicPartition(message.topic, UNKNOWN_PARTITION)
        return partitions[partition_of(message.key, len(partitions))]

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset once the message is fsynced."""
        partition, append = self._prepare(message)
        return partition, await self._write([append])

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Write the messages of topics that exist in one transaction."""
        for message in messages:
            check_size(message)
        failures: dict[int, SafeVideoError] = {}
        batch: list[Append] = []
        for position, message in enumerate(messages):
            try:
                batch.append(self._prepare(message)[1])
            except BrokerUnavailable as missing:
                failures[position] = missing
        if batch:
            await self._write(batch)
        if failures:
            raise BatchIncomplete(failures)

    def _prepare(self, message: Message) -> tuple[TopicPartition, Append]:
        check_size(message)
        partitions = self._metadata.existing_partitions(message.topic)
        partition = partitions[partition_of(message.key, len(partitions))]
        headers = storage.encode_headers(message.headers)
        return partition, Append(self._metadata.partition_id(partition), message.key, message.value, headers)

    async def _write(self, batch: Sequence[Append]) -> int:
        written = self._file.append(batch)
        self._timeouts.watch(written)
        return await written


class EmbeddedSubscription:
    """See `Subscription`."""

    def __init__(self, membership: GroupMembership, metadata: MetadataCache, file: SqliteStorage) -> None:
        self._membership = membership
        self._group = membership.group
        self._metadata = metadata
        self._file = file
        self._positions: dict[TopicPartition, int] = {}
        self._fetches = 0

    @property
    def generation(self) -> int:
        """Always 0: a member keeps its topics until it leaves."""
        return 0

    def processing(self) -> AbstractContextManager[PartitionClaim]:
        """Return a claim that never ends."""
        return nullcontext(NullClaim())

    async def fetch(
        self, *, max_records: int, timeout: float, shard: PartitionShard = ALL_PARTITIONS
    ) -> Sequence[Record]:
        """Return the next records. Waits for the first one without polling."""
        try:
            async with asyncio.timeout(timeout) as limit:
                while not (ranges := self._unread(shard)):
                    await self._metadata.wait_for_data()
                limit.reschedule(None)
                return await self._read(ranges, max_records)
        except TimeoutError:
            return ()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Return once the offsets are fsynced."""
        owned = set(self._owned())
        forward = {
            partition: offset
            for partition, offset in offsets.items()
            if partition in owned and offset > self._metadata.committed(self._group, partition)
        }
        if forward:
            by_id = {self._metadata.partition_id(partition): offset for partition, offset in forward.items()}
            await self._file.write(lambda connection: storage.commit_offsets(connection, self._group, by_id))
            self._metadata.commit(self._group, forward)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Return the lag from memory."""
        metadata, group = self._metadata, self._group
        return {each: metadata.high_watermark(each) - metadata.committed(group, each) for each in self._owned()}

    def seek_to_committed(self) -> None:
        """Forget the positions: the next fetch starts at the committed offsets."""
        self._positions.clear()

    def _owned(self) -> list[TopicPartition]:
        return [each for topic in self._membership.owned_topics() for each in self._metadata.partitions_of(topic)]

    def _unread(self, shard: PartitionShard) -> list[FetchRange]:
        ranges = []
        for partition in self._owned():
            if not shard.contains(partition.partition):
                continue
            start = max(self._positions.get(partition, 0), self._metadata.committed(self._group, partition))
            available = self._metadata.available_range(partition)
            if start < available.end:
                ranges.append(available._replace(start=start))
        return ranges

    async def _read(self, ranges: Sequence[FetchRange], max_records: int) -> Sequence[Record]:
        # Each fetch starts with another partition, so that a full one cannot starve the others.
        self._fetches += 1
        first = self._fetches % len(ranges)
        rotated = [*ranges[first:], *ranges[:first]]
        found = await self._file.read(lambda connection: storage.read_ranges(connection, rotated, max_records))
        for record in found:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return found


class EmbeddedReader:
    """See `Reader`."""

    def __init__(self, metadata: MetadataCache, file: SqliteStorage) -> None:
        self._metadata = metadata
        self._file = file

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Return the offsets by bisection in each partition."""
        ranges = [self._metadata.available_range(each) for each in self._metadata.existing_partitions(topic)]

        def find(connection: sqlite3.Connection) -> dict[TopicPartition, int]:
            return {each.partition: storage.offset_for_time(connection, each, timestamp_ms) for each in ranges}

        return await self._file.read(find)

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return the low watermarks."""
        return {each: self._metadata.low_watermark(each) for each in self._metadata.existing_partitions(topic)}

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return the high watermarks."""
        return {each: self._metadata.high_watermark(each) for each in self._metadata.existing_partitions(topic)}

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """Return records from `offset` on, or from the oldest record if that is later."""
        if partition not in self._metadata.existing_partitions(partition.topic):
            raise BrokerUnavailable(f"Topic {partition.topic} has no partition {partition.partition}.")
        available = self._metadata.available_range(partition)
        fetch = available._replace(start=max(offset, available.start))
        return await self._file.read(lambda connection: storage.read_range(connection, fetch, max_records))
