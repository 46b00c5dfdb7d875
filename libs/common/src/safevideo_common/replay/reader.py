"""Reading one partition from an offset to an end, one chunk ahead of the work."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.tasks import cancel_and_wait

CHUNK_RECORDS: Final = 500


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records, in order, and the offset with which the next begin."""

    records: Sequence[Record]
    start: int
    """Of the first record; what was asked for may be gone."""
    end: int


class PrefetchReader:
    """What lies between two offsets of a partition."""

    def __init__(self, reader: Reader, partition: TopicPartition, start: int, end: int) -> None:
        self._reader = reader
        self._partition = partition
        self._end = end
        self._ahead: asyncio.Task[Chunk | None] | None = asyncio.create_task(self._read(start))

    async def next(self) -> Chunk | None:
        """The next chunk; None when there is none. Raises `BrokerUnavailable`: then it is done with."""
        if self._ahead is None:
            return None
        chunk, self._ahead = await self._ahead, None
        if chunk is not None:
            self._ahead = asyncio.create_task(self._read(chunk.end))
        return chunk

    async def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead is not None:
            await cancel_and_wait(self._ahead)

    async def _read(self, offset: int) -> Chunk | None:
        if offset >= self._end:
            return None
        limit = min(CHUNK_RECORDS, self._end - offset)
        found = await self._reader.read(self._partition, offset, limit)
        records = [record for record in found if record.offset < self._end]
        if not records:  # the rest was deleted since
            return Chunk((), self._end, self._end)
        return Chunk(records, records[0].offset, records[-1].offset + 1)


@asynccontextmanager
async def prefetch(reader: Reader, partition: TopicPartition, start: int, end: int) -> AsyncIterator[PrefetchReader]:
    """The chunks between the two offsets; leaving stops reading."""
    chunks = PrefetchReader(reader, partition, start, end)
    try:
        yield chunks
    finally:
        await chunks.close()
