"""The consume loop: fetch, apply, commit the offsets, and again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Final, Generic, TypeVar

from safevideo_common.errors import LogUnavailable, ServiceUnavailable
from safevideo_common.messaging.consuming.backoff import Backoff
from safevideo_common.messaging.consuming.batch import Applier
from safevideo_common.messaging.consuming.delivery import delivery_of, next_offsets
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.messaging.consuming.progress import Progress
from safevideo_common.messaging.port import Record, Subscription
from safevideo_common.observability.logs import FilteringBoundLogger

FETCH_SECONDS: Final = 1.0
"""How long one fetch waits for a first record; also how often an idle loop shows that it is alive."""

LAG_SECONDS: Final = 5.0
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)

Result = TypeVar("Result")


@dataclass(slots=True)
class ConsumeLoop(Generic[Event, States]):
    """Takes one member's share of the log into the database. Run by one task; cancelling it anywhere loses nothing."""

    subscription: Subscription
    applier: Applier[Event, States]
    batch_records: int
    progress: Progress
    log: FilteringBoundLogger
    metrics: ConsumerMetrics
    _lag_due: float = 0.0

    async def run(self) -> None:
        """Until cancelled. While the log or the database is away it waits; no event is blamed for that."""
        while True:
            records = await self._patiently(self._fetch)
            if records:
                await self._patiently(partial(self._apply, records))
                await self._commit(records)
            await self._measure_lag()

    async def _patiently(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `step`, tried until it has one. An outage is one line at its beginning and one at its end."""
        tries = 0
        while True:
            self.progress.turned()
            try:
                result = await step()
            except ServiceUnavailable as error:
                tries += 1
                if tries == 1:
                    self.log.warning("Consuming waits", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE_BACKOFF.delay(tries))
            else:
                if tries:
                    self.log.info("Consuming goes on", tries=tries)
                return result

    async def _fetch(self) -> Sequence[Record]:
        return await self.subscription.fetch(max_records=self.batch_records, timeout=FETCH_SECONDS)

    async def _apply(self, records: Sequence[Record]) -> None:
        started = perf_counter()
        await self.applier.apply([delivery_of(record) for record in records])
        self.metrics.batch(len(records), perf_counter() - started)

    async def _commit(self, records: Sequence[Record]) -> None:
        """Its failure costs reading these records again, which the inbox recognises; so it is not tried twice."""
        try:
            await self.subscription.commit(next_offsets(records))
        except LogUnavailable as error:
            self.metrics.commit_failed()
            self.log.warning("Offsets not committed", code=error.code, reason=error.message)

    async def _measure_lag(self) -> None:
        if monotonic() < self._lag_due:
            return
        self._lag_due = monotonic() + LAG_SECONDS
        try:
            self.metrics.lag(await self.subscription.lag())
        except LogUnavailable:
            self.metrics.lag({})  # unknown: an absent series, not an old figure
