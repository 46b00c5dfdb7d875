"""The consume loop: fetch, apply, commit the offsets beside the next fetch, and again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from safevideo_common.cancellation import ended
from safevideo_common.errors import LogUnavailable, ServiceUnavailable
from safevideo_common.messaging.consuming.batch import Applier
from safevideo_common.messaging.consuming.delivery import delivery_of, next_offsets
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.progress import LoopProgress
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import Claim, PartitionsLost, Record, Share, Subscription
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

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
    share: Share
    applier: Applier[Event, States]
    batch_records: int
    progress: LoopProgress
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
            claim = holding.enter_context(self.subscription.hold())
            try:
                await self._patiently(partial(self._apply, records, claim))
            except PartitionsLost:
                # Their new owner reads them again; if that is us, from what is committed.
                self.log.info("Batch given up, its partitions changed hands", records=len(records))
                self.subscription.rewind()
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
        records = await self.subscription.fetch(max_records=self.batch_records, timeout=FETCH_SECONDS, share=self.share)
        if records:
            self.progress.ate()
        return records

    async def _apply(self, records: Sequence[Record], claim: Claim) -> None:
        watch = Stopwatch(self.metrics.stage)
        await self.applier.apply([delivery_of(record) for record in records], claim)
        self.metrics.batch(records, watch.total())

    async def _commit(self, records: Sequence[Record], holding: ExitStack) -> None:
        """Its failure costs reading these records again, which the inbox recognises; so it is not tried twice."""
        watch = Stopwatch(self.metrics.stage)
        with holding:  # a rebalance waits for this too
            try:
                await self.subscription.commit(next_offsets(records))
            except LogUnavailable as error:
                self.metrics.commit_failed()
                self.log.warning("Offsets not committed", code=error.code, reason=error.message)
        watch.lap("offsets")

    async def _committed(self) -> None:
        if self._committing is not None:
            await self._committing

    async def _end_committing(self) -> None:
        if self._committing is not None:
            await asyncio.wait([self._committing], timeout=LAST_COMMIT_SECONDS)
            await ended(self._committing)
