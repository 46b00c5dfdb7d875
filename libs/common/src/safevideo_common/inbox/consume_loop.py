"""The consume loop: fetch, apply, commit the offsets beside the next fetch, and again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final, Generic, TypeVar

from safevideo_common.broker.port import (
    PartitionClaim,
    PartitionShard,
    PartitionsLost,
    Subscription,
)
from safevideo_common.broker.types import Record, next_offsets
from safevideo_common.errors import BrokerUnavailable, ServiceUnavailable
from safevideo_common.inbox.handler import Event, States, delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics, Stopwatch
from safevideo_common.inbox.processor import BatchProcessor
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import cancel_and_wait

# Whether a consumer makes progress: the liveness of its process.


STALLED_SECONDS: Final = 90.0
"""Without a turn, or with records ahead and none fetched, for this long a loop counts as stuck: longer than any
deadline and delay inside it, and longer than a rebalance."""


class LoopLiveness:
    """Of one loop. A turn is a fetch, an applied batch, or a decision to wait for what is away."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last_turn = now()
        self._hungry_since: float | None = None

    def turned(self) -> None:
        """One more turn."""
        self._last_turn = self._now()

    def ate(self) -> None:
        """Records were fetched, or nothing can be eaten now for a reason that is known and told."""
        self._hungry_since = None

    def sees(self, lag: int) -> None:
        """`lag` records lie ahead of it. Called every few seconds."""
        if not lag:
            self._hungry_since = None
        elif self._hungry_since is None:
            self._hungry_since = self._now()

    def fault(self) -> str:
        """Why the loop counts as stuck; empty when it does not."""
        now = self._now()
        if now - self._last_turn > STALLED_SECONDS:
            return "the consume loop is stuck"
        if self._hungry_since is not None and now - self._hungry_since > STALLED_SECONDS:
            return "there are records and the consume loop gets none"
        return ""


class ConsumerLiveness:
    """Of all loops of a process."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is a clock in seconds that never goes back."""
        self._now = now
        self._loops: list[LoopLiveness] = []
        self._halted = ""

    def begin(self) -> LoopLiveness:
        """That of one more loop."""
        self._loops.append(LoopLiveness(self._now))
        return self._loops[-1]

    def halt(self, reason: str) -> None:
        """Consuming has stopped for good, on purpose."""
        self._loops.clear()
        self._halted = reason

    async def check(self) -> None:
        """Raises `ServiceUnavailable` when a loop is stuck: a new process may do better. Not when halted."""
        for loop in self._loops:
            if fault := loop.fault():
                raise ServiceUnavailable(fault)

    async def check_consuming(self) -> None:
        """Raises `ServiceUnavailable` when consuming has halted: only an operator can help."""
        if self._halted:
            raise ServiceUnavailable(f"consuming has halted: {self._halted}")


FETCH_SECONDS: Final = 1.0
"""How long one fetch waits for a first record; also how often an idle loop shows that it is alive."""

LAST_COMMIT_SECONDS: Final = 1.0
"""What a loop that is told to stop waits for its last offsets."""

OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)

Result = TypeVar("Result")


@dataclass(slots=True)
class ConsumeLoop(Generic[Event, States]):
    """Takes one share of a member's partitions into the database, a batch at a time: what waits, waits in the log.

    Run by one task; cancelling it anywhere loses nothing. Several loops of one subscription, each with another share,
    overlap their waits for the database.
    """

    subscription: Subscription
    share: PartitionShard
    applier: BatchProcessor[Event, States]
    batch_records: int
    progress: LoopLiveness
    log: FilteringBoundLogger
    metrics: ConsumerMetrics
    _committing: asyncio.Task[None] | None = None
    """Of the batch before: one at a time, so a partition's offsets are committed in order."""

    async def run(self) -> None:
        """Until cancelled. While the log or the database is away it waits; no event is blamed for that.

        Raises `TooManyDead`.
        """
        try:
            while True:
                if records := await self._patiently(self._fetch):
                    await self._take(records)
        finally:
            await self._end_committing()

    async def _take(self, records: Sequence[Record]) -> None:
        with ExitStack() as holding:
            claim = holding.enter_context(self.subscription.processing())
            try:
                await self._patiently(partial(self._apply, records, claim))
            except PartitionsLost:
                # Their new owner reads them again; if that is us, from what is committed.
                self.log.info("Batch given up, its partitions changed hands", records=len(records))
                self.subscription.seek_to_committed()
            else:
                await self._committed()
                self._committing = asyncio.create_task(self._commit(records, holding.pop_all()))

    async def _patiently(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `step`, tried until it has one. An outage is one line at its beginning and one at its end."""
        tries = 0
        while True:
            self.progress.turned()
            try:
                result = await step()
            except ServiceUnavailable as error:
                tries += 1
                self.progress.ate()
                if tries == 1:
                    self.log.warning("Consuming waits", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE_BACKOFF.delay(tries))
            else:
                if tries:
                    self.log.info("Consuming goes on", tries=tries)
                return result

    async def _fetch(self) -> Sequence[Record]:
        records = await self.subscription.fetch(max_records=self.batch_records, timeout=FETCH_SECONDS, shard=self.share)
        if records:
            self.progress.ate()
        return records

    async def _apply(self, records: Sequence[Record], claim: PartitionClaim) -> None:
        watch = Stopwatch(self.metrics.stage)
        await self.applier.apply([delivery_of(record) for record in records], claim)
        self.metrics.batch(records, watch.total())

    async def _commit(self, records: Sequence[Record], holding: ExitStack) -> None:
        """Its failure costs reading these records again, which the inbox recognises; so it is not tried twice."""
        watch = Stopwatch(self.metrics.stage)
        with holding:  # a rebalance waits for this too
            try:
                await self.subscription.commit(next_offsets(records))
            except BrokerUnavailable as error:
                self.metrics.commit_failed()
                self.log.warning("Offsets not committed", code=error.code, reason=error.message)
        watch.lap("offsets")

    async def _committed(self) -> None:
        if self._committing is not None:
            await self._committing

    async def _end_committing(self) -> None:
        if self._committing is not None:
            await asyncio.wait([self._committing], timeout=LAST_COMMIT_SECONDS)
            await cancel_and_wait(self._committing)
