"""A real replay of a partition: each batch is applied in one transaction with its checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.inbox.handler import Delivery, Event, States
from safevideo_common.inbox.identity import identify
from safevideo_common.inbox.processor import BatchProcessor, Decisions, ProcessingPolicy
from safevideo_common.jobs.handler import JobInterrupted
from safevideo_common.replay.context import ReplayContext
from safevideo_common.replay.plan import KNOWN_OUTCOME
from safevideo_common.replay.policies import count_outcomes
from safevideo_common.replay.reader import Chunk, prefetch


@dataclass(slots=True)
class ApplyPartition(Generic[Event, States]):
    """Applies partitions, one after the other. A batch whose commit was lost is applied again without effect."""

    context: ReplayContext[Event, States]
    policy: ProcessingPolicy[Event, States]
    _has_existing: bool = True
    """The last batch had events of the inbox. Then search the next batch for such events before it is locked."""

    async def run(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionReplay`."""
        context = self.context
        async with prefetch(reader, partition, *context.remaining_range(partition)) as chunks:
            while chunk := await chunks.next():
                context.skip_deleted(partition, chunk.start)
                for batch, next_offset in _batches(context.matching(chunk), chunk, context.max_batch):
                    await self._apply(partition, batch, next_offset)
                    await context.throttle(len(batch))
        await context.save()

    async def _apply(self, partition: TopicPartition, batch: Sequence[Delivery], next_offset: int) -> None:
        to_process, skipped = await self._split(batch)
        if to_process:
            await self._process(partition, to_process, skipped)
            skipped = [each for each in skipped if each.offset > to_process[-1].offset]
        self.context.advance(partition, next_offset, skipped, {KNOWN_OUTCOME: len(skipped)})
        if not to_process:
            await self.context.maybe_save()

    async def _split(self, batch: Sequence[Delivery]) -> tuple[Sequence[Delivery], Sequence[Delivery]]:
        """Return the deliveries to process, and those to skip because the inbox has them."""
        if self.context.request.force or not self._has_existing or not batch:
            return batch, ()
        consumer = self.context.consumer
        async with consumer.database.read_connection() as reading:
            identified, existing = await identify(reading, consumer.group, batch)
        self._has_existing = bool(existing)
        is_missing = [each.envelope.id not in existing for each in identified]
        return (
            [each for each, missing in zip(batch, is_missing, strict=True) if missing],
            [each for each, missing in zip(batch, is_missing, strict=True) if not missing],
        )

    async def _process(
        self, partition: TopicPartition, to_process: Sequence[Delivery], skipped: Sequence[Delivery]
    ) -> None:
        """Process a batch. Count the skipped deliveries with the processed ones behind them."""

        def save_checkpoint(tx: AsyncConnection, decisions: Decisions) -> AbstractAsyncContextManager[None]:
            self._has_existing = self._has_existing or bool(
                decisions.unchanged or decisions.settled or decisions.repeated
            )
            decided = [
                *(each.delivery for each in (*decisions.new, *decisions.unchanged, *decisions.settled)),
                *decisions.repeated,
            ]
            start, last = self.context.remaining_range(partition)[0], max(each.offset for each in decided)
            before = [each for each in skipped if start <= each.offset < last]
            outcomes = count_outcomes(decisions)
            outcomes[KNOWN_OUTCOME] += len(before)
            return self.context.save_with(tx, partition, last + 1, [*before, *decided], outcomes)

        processor = BatchProcessor(
            self.context.consumer, self.policy, around_commit=save_checkpoint, interrupted_by=(JobInterrupted,)
        )
        await processor.process(to_process)
        await self.context.job.raise_if_stopped()


def _batches(deliveries: Sequence[Delivery], chunk: Chunk, max_batch: int) -> Iterator[tuple[Sequence[Delivery], int]]:
    """Split the deliveries into batches, each with the offset that follows it."""
    for start in range(0, max(1, len(deliveries)), max_batch):
        batch = deliveries[start : start + max_batch]
        is_last = start + max_batch >= len(deliveries)
        yield batch, chunk.end if is_last else batch[-1].offset + 1
