"""The consume loop: fetch a batch, process it, commit its offsets during the next fetch. And the loop's liveness."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final, Generic, TypeVar

from safevideo_common.broker.port import (
    PartitionClaim,
    PartitionShard,
    PartitionsLost,
    Subscription,
)
from safevideo_common.broker.types import Record, TopicPartition, next_offsets
from safevideo_common.errors import BrokerUnavailable, ServiceUnavailable
from safevideo_common.inbox.handler import Event, States, delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics, Stopwatch
from safevideo_common.inbox.processor import BatchProcessor
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.resilience.outages import Outage
from safevideo_common.tasks import cancel_and_wait

STALLED_SECONDS: Final = 90.0
"""A loop without an iteration, or with records ahead and no fetch, is stuck after this time.

It is longer than each timeout and delay inside the loop, and longer than a rebalance."""
FETCH_SECONDS: Final = 1.0
"""The longest wait of a fetch for its first record. An idle loop shows at this interval that it is alive."""
LAST_COMMIT_SECONDS: Final = 1.0
"""The longest wait of a cancelled loop for its last offset commit."""
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)

Result = TypeVar("Result")


class LoopLiveness:
    """The liveness of one consume loop. `now` is a clock in seconds that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last_iteration = now()
        self._starved_since: float | None = None

    def record_iteration(self) -> None:
        """Record an attempt to fetch or to process a batch."""
        self._last_iteration = self._now()

    def record_fetch(self) -> None:
        """Record that the loop fetched records, or that it is paused for a reason already logged."""
        self._starved_since = None

    def update_lag(self, lag: int) -> None:
        """Record that `lag` records are ahead of the loop. Called every few seconds."""
        if not lag:
            self._starved_since = None
        elif self._starved_since is None:
            self._starved_since = self._now()

    def problem(self) -> str:
        """Return why the loop is stuck, or an empty text."""
        now = self._now()
        if now - self._last_iteration > STALLED_SECONDS:
            return "the consume loop is stuck"
        if self._starved_since is not None and now - self._starved_since > STALLED_SECONDS:
            return "there are records and the consume loop gets none"
        return ""


class ConsumerLiveness:
    """The liveness of all consume loops of a process."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is a clock in seconds that never goes back."""
        self._now = now
        self._loops: list[LoopLiveness] = []
        self._halt_reason = ""

    def start(self) -> LoopLiveness:
        """Return the liveness of one more loop."""
        self._loops.append(LoopLiveness(self._now))
        return self._loops[-1]

    def stop(self) -> None:
        """Forget the loops: all have ended. A member that is started again starts its own."""
        self._loops.clear()

    def halt(self, reason: str) -> None:
        """Record that consumption has stopped for good, on purpose."""
        self._loops.clear()
        self._halt_reason = reason

    async def check(self) -> None:
        """Raise `ServiceUnavailable` if a loop is stuck: a new process can help. A halted consumer is not stuck."""
        for loop in self._loops:
            if problem := loop.problem():
                raise ServiceUnavailable(problem)

    async def check_consuming(self) -> None:
        """Raise `ServiceUnavailable` if consumption has halted: only an operator can help."""
        if self._halt_reason:
            raise ServiceUnavailable(f"consuming has halted: {self._halt_reason}")


@dataclass(slots=True)
class ConsumeLoop(Generic[Event, States]):
    """Processes the partitions of one shard, one batch at a time. Backpressure: other records stay in the broker.

    Run by one task, which may be cancelled at any point. The loops of a subscription have different shards, so their
    waits for the database overlap.
    """

    subscription: Subscription
    shard: PartitionShard
    processor: BatchProcessor[Event, States]
    batch_records: int
    liveness: LoopLiveness
    logger: FilteringBoundLogger
    metrics: ConsumerMetrics
    _outage: Outage = field(init=False)
    _offset_commit: asyncio.Task[None] | None = None
    """Of the previous batch. There is one at a time, so the offsets of a partition are committed in order."""
    _uncommitted: dict[TopicPartition, int] = field(default_factory=dict)
    """Offsets whose commit failed: at most one a partition. The next commit, or an idle fetch, includes them."""

    def __post_init__(self) -> None:
        self._outage = Outage(
            self.logger, OUTAGE_BACKOFF, began="Consumer paused: dependency unavailable", ended="Consumer resumed"
        )

    async def run(self) -> None:
        """Consume until cancelled. Pause while broker or database are unavailable. Raise `DlqRateExceeded`."""
        try:
            while True:
                if records := await self._retry_while_unavailable(self._fetch):
                    await self._process(records)
                elif self._uncommitted:
                    await self._wait_for_offset_commit()
                    await self._commit_offsets({}, ExitStack())
        finally:
            await self._stop_offset_commit()

    async def _process(self, records: Sequence[Record]) -> None:
        with ExitStack() as claims:
            claim = claims.enter_context(self.subscription.processing())
            try:
                await self._retry_while_unavailable(partial(self._process_batch, records, claim))
            except PartitionsLost:
                # The new owner reads these records again, from the committed offsets.
                self.logger.info("Batch discarded after rebalance", records=len(records))
                self.subscription.seek_to_committed()
            else:
                await self._wait_for_offset_commit()
                self._offset_commit = asyncio.create_task(self._commit_offsets(next_offsets(records), claims.pop_all()))

    async def _retry_while_unavailable(self, step: Callable[[], Awaitable[Result]]) -> Result:
        return await self._outage.retry(partial(self._attempt, step))

    async def _attempt(self, step: Callable[[], Awaitable[Result]]) -> Result:
        self.liveness.record_iteration()
        try:
            return await step()
        except ServiceUnavailable:
            self.liveness.record_fetch()
            raise

    async def _fetch(self) -> Sequence[Record]:
        records = await self.subscription.fetch(max_records=self.batch_records, timeout=FETCH_SECONDS, shard=self.shard)
        if records:
            self.liveness.record_fetch()
        return records

    async def _process_batch(self, records: Sequence[Record], claim: PartitionClaim) -> None:
        watch = Stopwatch(self.metrics.stage)
        await self.processor.process([delivery_of(record) for record in records], claim)
        self.metrics.batch(records, watch.total())

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, int], claims: ExitStack) -> None:
        """Commit the offsets after a batch, and those whose commit failed before.

        If it fails, they are pending. If the process ends first, the records are read again and found in the inbox.
        """
        watch = Stopwatch(self.metrics.stage)
        pending = {**self._uncommitted, **offsets}
        with claims:  # a rebalance waits for the end of this block
            try:
                await self.subscription.commit(pending)
                self._uncommitted = {}
            except BrokerUnavailable as error:
                self.metrics.commit_failed()
                if not self._uncommitted:  # one line per outage
                    self.logger.warning("Offsets not committed", code=error.code, reason=error.message)
                self._uncommitted = pending
        watch.lap("offsets")

    async def _wait_for_offset_commit(self) -> None:
        if self._offset_commit is not None:
            await self._offset_commit

    async def _stop_offset_commit(self) -> None:
        if self._offset_commit is not None:
            await asyncio.wait([self._offset_commit], timeout=LAST_COMMIT_SECONDS)
            await cancel_and_wait(self._offset_commit)
