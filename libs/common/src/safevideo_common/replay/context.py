"""A replay in progress: the state that its partition tasks share."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from time import monotonic
from typing import Final, Generic, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import TopicPartition
from safevideo_common.inbox.handler import Delivery, Event, ReplayableHandler, States, delivery_of
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.jobs.handler import JobContext
from safevideo_common.replay.metrics import ReplayProgress
from safevideo_common.replay.plan import ReplayCheckpoint
from safevideo_common.replay.reader import Chunk
from safevideo_common.replay.request import ReplayParameters
from safevideo_common.replay.throttle import Throttle

SAVE_INTERVAL: Final = 1.0
"""Seconds between two saved checkpoints while nothing is applied."""
MAX_REPORTED_PERFORMERS: Final = 100
"""Performers whose changes are in the result of a dry run."""


class ReplayContext(Generic[Event, States]):
    """The request of a replay, its parts, and its checkpoint.

    The checkpoint equals the saved one, or is ahead of it by records that changed nothing. Partition tasks advance it
    concurrently, each for its own partition. One of them at a time saves it.
    """

    def __init__(
        self,
        job: JobContext,
        request: ReplayParameters,
        consumer: ConsumerContext[Event, States],
        handler: ReplayableHandler[Event, States],
        throttle: Throttle,
        checkpoint: ReplayCheckpoint,
        progress: ReplayProgress,
    ) -> None:
        self.job: Final = job
        self.request: Final = request
        self.consumer: Final = consumer
        self.handler: Final = handler
        self.max_batch: Final = throttle.max_batch
        self._throttle = throttle
        self._checkpoint = checkpoint
        self._progress = progress
        self._previews: dict[int, ReplayCheckpoint] = {}
        """The unsaved results of a dry run by partition. An interrupted partition begins again."""
        self._save_lock = asyncio.Lock()
        self._saved_at = 0.0

    def remaining_partitions(self) -> list[TopicPartition]:
        """Return the partitions that are not complete, in order."""
        return self._checkpoint.remaining_partitions(self.request.topic)

    def remaining_range(self, partition: TopicPartition) -> tuple[int, int]:
        """Return the next offset to read and the end, which is excluded."""
        number = str(partition.partition)
        return self._checkpoint.next[number], self._checkpoint.ends[number]

    def matching(self, chunk: Chunk) -> list[Delivery]:
        """Return the events that pass the filters."""
        deliveries = map(delivery_of, chunk.records)
        return [delivery for delivery in deliveries if self.request.matches(delivery.envelope)]

    def skip_deleted(self, partition: TopicPartition, start: int) -> None:
        """Skip records that retention has deleted: the oldest one left is at `start`."""
        self._checkpoint.skip_deleted(partition.partition, start)

    def advance(
        self, partition: TopicPartition, next_offset: int, deliveries: Collection[Delivery], outcomes: Mapping[str, int]
    ) -> None:
        """Count events that changed nothing, without saving the checkpoint."""
        self._checkpoint.count(count_types(deliveries), outcomes)
        self._checkpoint.advance_to(partition.partition, next_offset)

    @asynccontextmanager
    async def save_with(
        self,
        tx: AsyncConnection,
        partition: TopicPartition,
        next_offset: int,
        deliveries: Collection[Delivery],
        outcomes: Mapping[str, int],
    ) -> AsyncIterator[None]:
        """Save the advanced checkpoint in `tx`. Leave after the commit: then the new checkpoint is valid.

        Raise `JobInterrupted`: then `tx` must be rolled back.
        """
        async with self._save_lock:
            advanced = self._checkpoint.copy()
            advanced.count(count_types(deliveries), outcomes)
            advanced.advance_to(partition.partition, next_offset)
            await self.job.checkpoint(tx, advanced.document(), processed=advanced.processed, total=advanced.total)
            yield
            self.advance(partition, next_offset, deliveries, outcomes)
            self._report_progress()

    async def save(self) -> None:
        """Save the checkpoint in a transaction of its own."""
        async with AsyncExitStack() as until_committed, self.consumer.database.transaction() as tx:
            # Acquire the lock inside: a task that holds it never waits for a transaction to begin.
            await until_committed.enter_async_context(self._save_lock)
            processed = sum(each.processed for each in (self._checkpoint, *self._previews.values()))
            await self.job.checkpoint(
                tx, self._checkpoint.document(), processed=processed, total=self._checkpoint.total
            )
        self._saved_at = monotonic()
        self._report_progress()

    async def maybe_save(self) -> None:
        """Save the checkpoint if the last time is long enough ago. Raise `JobInterrupted`."""
        if monotonic() - self._saved_at >= SAVE_INTERVAL:
            await self.save()
        else:
            self._report_progress()
            await self.job.raise_if_stopped()

    @contextmanager
    def preview(self, partition: TopicPartition) -> Iterator[ReplayCheckpoint]:
        """Collect the results of a dry run in a checkpoint of one partition. Merge it if the block succeeds."""
        number = partition.partition
        part = self._previews[number] = self._checkpoint.for_partition(number)
        try:
            yield part
        finally:
            del self._previews[number]
        self._checkpoint.merge(part, MAX_REPORTED_PERFORMERS)

    async def throttle(self, events: int) -> None:
        """Wait until the next batch may begin, after a batch of `events`. Raise `JobInterrupted`."""
        await self._throttle.wait(events, self.job.raise_if_stopped)

    def result(self) -> dict[str, object]:
        """Return the result of the job."""
        return self._checkpoint.result(is_dry=self.request.dry_run)

    def _report_progress(self) -> None:
        self._progress.update(self._checkpoint, *self._previews.values())


class PartitionReplay(Protocol):
    """The work on one partition: apply its events, or preview them."""

    async def run(self, partition: TopicPartition, reader: Reader) -> None:
        """Process the partition from the checkpoint to its end. After an error it may be called again."""
        ...


def count_types(deliveries: Collection[Delivery]) -> Counter[str]:
    """Count deliveries by event type."""
    return Counter(each.envelope.type for each in deliveries)
