"""A real run: what is read is applied, with the cursor, batch by batch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from safevideo_common.database import inbox
from safevideo_common.messaging.consuming.batch import Applier
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.effects import Effect
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.port import PartitionsLost, Reader, TopicPartition, Unshared
from safevideo_common.messaging.replay.checkpoints import Checkpoints
from safevideo_common.messaging.replay.cursor import KNOWN
from safevideo_common.messaging.replay.reading import Chunk, reading_ahead
from safevideo_common.messaging.replay.run import Run


@dataclass(slots=True)
class Applying(Generic[Event, States]):
    """See `PartitionWork`."""

    run: Run[Event, States]
    effect: Effect[Event, States]
    _met_known: bool = True
    """Whether the last batch had events that the inbox has: then the next one is looked through before it is locked."""

    async def do(self, partition: TopicPartition, reader: Reader) -> None:
        """See `PartitionWork`. A batch whose commit was done and not heard of is done again, to no effect."""
        start, end = (offsets[str(partition.partition)] for offsets in (self.run.cursor.next, self.run.cursor.ends))
        async with reading_ahead(reader, partition, start, end) as chunks:
            while chunk := await chunks.next():
                self.run.cursor.missed(partition.partition, chunk.start)
                for batch, upto in _batches(self.run.wanted(chunk), chunk, self.run.pace.batch):
                    await self._apply(partition.partition, batch, upto)
                    await self.run.pace.rest(len(batch), self.run.job.check)
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
        async with self.run.consumer.database.reading() as reading:
            known = await inbox.known(reading, self.run.consumer.group, (each.envelope.id for each in batch))
        self._met_known = bool(known)
        fresh = [each for each in batch if each.envelope.id not in known]
        return fresh, [each for each in batch if each.envelope.id in known]

    async def _apply_fresh(self, partition: int, fresh: Sequence[Delivery], passed: Sequence[Delivery]) -> None:
        checkpoints = Checkpoints(self.run, self.effect, partition, passed)
        try:
            await Applier(self.run.consumer, checkpoints.apply, checkpoints.begin).apply(fresh, Unshared())
        except PartitionsLost as lost:
            raise lost.__cause__ or lost from None
        finally:
            self._met_known = self._met_known or checkpoints.met_known
        await self.run.job.check()


def _batches(deliveries: Sequence[Delivery], chunk: Chunk, most: int) -> Iterator[tuple[Sequence[Delivery], int]]:
    """The deliveries in runs of at most `most`, each with the offset before which all is done then."""
    for start in range(0, max(1, len(deliveries)), most):
        batch = deliveries[start : start + most]
        is_last = start + most >= len(deliveries)
        yield batch, chunk.end if is_last else batch[-1].offset + 1
