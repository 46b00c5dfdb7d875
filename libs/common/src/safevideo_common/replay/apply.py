"""A real run: what is read is applied, with the cursor, batch by batch."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import NullClaim, PartitionsLost, Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.inbox.decisions import Parsed
from safevideo_common.inbox.handler import Delivery, Event, States
from safevideo_common.inbox.metrics import Stopwatch
from safevideo_common.inbox.processor import BatchProcessor, BatchResult, ConsumerContext, ProcessingPolicy
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.jobs.handler import JobInterrupted
from safevideo_common.replay.context import ReplayContext
from safevideo_common.replay.plan import KNOWN, ReplayCheckpoint
from safevideo_common.replay.reader import Chunk, prefetch

# The transactions of a replay: what is applied and the cursor behind it are committed together, or not at all.


class BatchProgress(NamedTuple):
    """What a transaction adds to the cursor."""

    types: Mapping[str, int]
    outcomes: Mapping[str, int]
    next_offset: int


@dataclass(slots=True)
class CheckpointedBatch(Generic[Event, States]):
    """Those of one batch of one partition: one, or several where the batch has to be taken apart."""

    run: ReplayContext[Event, States]
    effect: ProcessingPolicy[Event, States]
    partition: int
    passed: Sequence[Delivery]
    """Events of the batch that the inbox has: they are counted with what stands behind them."""
    met_known: bool = False
    """Whether the inbox had some of what was to be applied."""
    _advance: BatchProgress | None = None
    """Set while this has the turn to seal: from the lock on the job's row to the commit."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. The cursor goes on once it is committed."""
        try:
            async with self.run.consumer.database.transaction() as tx:
                yield tx
            if self._advance is not None:
                self._add(self.run.cursor, self._advance)
                self.run.came_further()
        finally:
            if self._advance is not None:
                self._advance = None
                self.run.sealing.release()

    async def apply(
        self,
        consumer: ConsumerContext[Event, States],
        tx: AsyncConnection,
        parsed: Sequence[Parsed[Event]],
        watch: Stopwatch,
    ) -> BatchResult[States]:
        """The batch's effect, and the cursor behind it.

        Raises `PartitionsLost` from what has ended the run, which is no fault of the batch.
        """
        done = await self.effect(consumer, tx, parsed, watch)
        self.met_known = self.met_known or len(done.decided) < len(parsed)
        await self.run.sealing.acquire()
        self._advance = self._by(parsed, done)
        cursor = self.run.cursor.copy()
        self._add(cursor, self._advance)
        try:
            await self.run.job.checkpoint(tx, cursor.document(), processed=cursor.processed, total=cursor.total)
        except JobInterrupted as stopped:
            raise PartitionsLost from stopped
        return done

    def _by(self, parsed: Sequence[Parsed[Event]], done: BatchResult[States]) -> BatchProgress:
        last, reached = parsed[-1].delivery.offset, self.run.cursor.next[str(self.partition)]
        passed = [each for each in self.passed if reached <= each.offset < last]
        outcomes = Counter(str(each.outcome.status) for each in (*done.decided, *done.again))
        outcomes[KNOWN] += len(passed) + len(parsed) - outcomes.total()
        deliveries = [*passed, *(each.delivery for each in parsed)]
        return BatchProgress(Counter(each.envelope.type for each in deliveries), outcomes, last + 1)

    def _add(self, cursor: ReplayCheckpoint, advance: BatchProgress) -> None:
        cursor.count(advance.types, advance.outcomes)
        cursor.reached(self.partition, advance.next_offset)


@dataclass(slots=True)
class ApplyPartition(Generic[Event, States]):
    """See `PartitionWork`."""

    run: ReplayContext[Event, States]
    effect: ProcessingPolicy[Event, States]
    _met_known: bool = True
    """Whether the last batch had events that the inbox has: then the next one is looked through before it is locked."""

    async def do(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionWork`. A batch whose commit was done and not heard of is done again, to no effect."""
        start, end = (offsets[str(partition.partition)] for offsets in (self.run.cursor.next, self.run.cursor.ends))
        async with prefetch(reader, partition, start, end) as chunks:
            while chunk := await chunks.next():
                self.run.cursor.missed(partition.partition, chunk.start)
                for batch, upto in _batches(self.run.wanted(chunk), chunk, self.run.pace.batch):
                    await self._apply(partition.partition, batch, upto)
                    await self.run.pace.rest(len(batch), self.run.job.raise_if_stopped)
        await self.run.save()

    async def _apply(self, partition: int, batch: Sequence[Delivery], upto: int) -> None:
        fresh, passed = await self._sorted(batch)
        if fresh:
            await self._apply_fresh(partition, fresh, passed)
            passed = [each for each in passed if each.offset > fresh[-1].offset]
        cursor = self.run.cursor
        cursor.count(Counter(each.envelope.type for each in passed), {KNOWN: len(passed)})
        cursor.reached(partition, upto)
        if not fresh:
            await self.run.save_now_and_then()

    async def _sorted(self, batch: Sequence[Delivery]) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """What has to be decided, and what is passed over since the inbox has it."""
        if self.run.asked.force or not self._met_known or not batch:
            return batch, ()
        async with self.run.consumer.database.read_connection() as reading:
            known = await inbox_rows.existing_ids(
                reading, self.run.consumer.group, (each.envelope.id for each in batch)
            )
        self._met_known = bool(known)
        fresh = [each for each in batch if each.envelope.id not in known]
        return fresh, [each for each in batch if each.envelope.id in known]

    async def _apply_fresh(self, partition: int, fresh: Sequence[Delivery], passed: Sequence[Delivery]) -> None:
        checkpoints = CheckpointedBatch(self.run, self.effect, partition, passed)
        try:
            await BatchProcessor(self.run.consumer, checkpoints.apply, checkpoints.begin).apply(fresh, NullClaim())
        except PartitionsLost as lost:
            raise lost.__cause__ or lost from None
        finally:
            self._met_known = self._met_known or checkpoints.met_known
        await self.run.job.raise_if_stopped()


def _batches(deliveries: Sequence[Delivery], chunk: Chunk, most: int) -> Iterator[tuple[Sequence[Delivery], int]]:
    """The deliveries in runs of at most `most`, each with the offset before which all is done then."""
    for start in range(0, max(1, len(deliveries)), most):
        batch = deliveries[start : start + most]
        is_last = start + most >= len(deliveries)
        yield batch, chunk.end if is_last else batch[-1].offset + 1
