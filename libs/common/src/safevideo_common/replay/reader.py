"""The reader of a replay: it prefetches the next chunk of a partition."""

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
    """Consecutive records, and the range of offsets that they cover."""

    records: Sequence[Record]
    start: int
    """The offset of the first record. Records before it may be deleted."""
    end: int
    """The offset of the next chunk."""


class PrefetchReader:
    """Reads a partition between two offsets, one chunk ahead of the caller."""

    def __init__(self, reader: Reader, partition: TopicPartition, start: int, end: int) -> None:
        self._reader = reader
        self._partition = partition
        self._end = end
        self._prefetched: asyncio.Task[Chunk | None] | None = asyncio.create_task(self._read(start))

    async def next(self) -> Chunk | None:
        """Return the next chunk, or None at the end. Raise `BrokerUnavailable`: then the reader is of no more use."""
        if self._prefetched is None:
            return None
        chunk, self._prefetched = await self._prefetched, None
        if chunk is not None:
            self._prefetched = asyncio.create_task(self._read(chunk.end))
        return chunk

    async def close(self) -> None:
        """Stop the prefetch."""
        if self._prefetched is not None:
            await cancel_and_wait(self._prefetched)

    async def _read(self, offset: int) -> Chunk | None:
        if offset >= self._end:
            return None
        limit = min(CHUNK_RECORDS, self._end - offset)
        records = await self._reader.read(self._partition, offset, limit)
        records = [record for record in records if record.offset < self._end]
        if not records:  # retention has deleted the rest
            return Chunk((), self._end, self._end)
        return Chunk(records, records[0].offset, records[-1].offset + 1)


@asynccontextmanager
async def prefetch(reader: Reader, partition: TopicPartition, start: int, end: int) -> AsyncIterator[PrefetchReader]:
    """Open a reader of the records between two offsets."""
    chunks = PrefetchReader(reader, partition, start, end)
    try:
        yield chunks
    finally:
        await chunks.close()
