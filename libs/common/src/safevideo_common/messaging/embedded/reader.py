"""Reads any range of the embedded log."""

import sqlite3
from collections.abc import Mapping, Sequence

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.embedded import reading
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.file import LogFile
from safevideo_common.messaging.port import Record, TopicPartition


class EmbeddedReader:
    """See `Reader`."""

    def __init__(self, catalogue: Catalogue, file: LogFile) -> None:
        self._catalogue = catalogue
        self._file = file

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """By bisection in each partition."""
        spans = [self._catalogue.kept(partition) for partition in self._catalogue.existing(topic)]

        def find(connection: sqlite3.Connection) -> dict[TopicPartition, int]:
            return {span.partition: reading.offset_at(connection, span, timestamp_ms) for span in spans}

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
            raise LogUnavailable(f"Topic {partition.topic} has no partition {partition.partition}.")
        kept = self._catalogue.kept(partition)
        span = kept._replace(start=max(offset, kept.start))
        return await self._file.ask(lambda connection: reading.records(connection, span, max_records))
