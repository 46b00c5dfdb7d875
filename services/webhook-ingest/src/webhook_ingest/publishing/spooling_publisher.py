"""Publishing that succeeds while the log is away: what the log does not acknowledge in time is kept in the spool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.delivery import check_size
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import background_task
from webhook_ingest.publishing.in_flight import (
    BEFORE_PUBLISHER_SECONDS,
    InFlightPublishes,
    PublishRecalled,
    Task,
)
from webhook_ingest.publishing.spool_drainer import KafkaOutage, Probe, SpoolDrainer
from webhook_ingest.spool.reporting import SpoolDepth, SpoolMetrics
from webhook_ingest.spool.spool import MAX_BYTES, Spool, open_spool

SPOOLED: Final = -1
"""The partition of a message that is in the spool: it has none yet."""

DRAIN_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """Where the spool is, how large it may grow, and how long the end of the process may wait for it to be emptied.

    What the log has not acknowledged within `produce_seconds`, less `BEFORE_PUBLISHER_SECONDS`, goes there.
    """

    folder: Path
    max_bytes: int = MAX_BYTES
    drain_seconds: float = DRAIN_SECONDS
    produce_seconds: float = ACKNOWLEDGED_WITHIN_SECONDS


class SpoolingPublisher:
    """See `Producer`. A message is safe once the log has acknowledged it, or once it is fsynced in the spool.

    The messages of a key keep their order: while one of them is in the spool, those that come later go there too.
    Once the log has missed a deadline, all messages go there at once, until the spool's task gets on again.
    What the log takes late is delivered a second time from the spool, under the same id.
    """

    def __init__(
        self, publisher: Producer, spool: Spool, probe: Probe, log: FilteringBoundLogger,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        """`probe` raises `BrokerUnavailable` while Kafka is unavailable.

        `acknowledged_within` is the deadline of `publisher`. Ours is `BEFORE_PUBLISHER_SECONDS` earlier.
        """
        deadline_seconds = acknowledged_within - BEFORE_PUBLISHER_SECONDS
        self._spool = spool
        self._spooled_keys = spool.keys
        self._flights = InFlightPublishes(publisher, self._spool_all, deadline_seconds)
        self._outage = KafkaOutage(log)
        self._draining = SpoolDrainer(spool, publisher, probe, self._outage, log, self._spool_all, deadline_seconds)
        self._called_back: dict[Task | None, asyncio.Future[int]] = {}

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset in the log; or `SPOOLED` and the number in the spool.

        Raises `BrokerUnavailable` when neither takes it, and `PayloadTooLarge`.
        """
        if self._outage.is_on or message.key in self._spooled_keys:
            check_size(message)
            return _spooled(message), await self._spool.keep(message)
        try:
            return await self._flights.send(message)
        except PublishRecalled:
            return _spooled(message), await self._called_back.pop(asyncio.current_task())
        except asyncio.CancelledError:
            if kept := self._called_back.pop(asyncio.current_task(), None):
                kept.cancel()  # it is kept all the same; only nobody waits for it
            raise

    async def run(self) -> None:
        """Empty the spool, adopt what dead processes left, notice when the log is back. One task runs this."""
        await self._draining.run()

    async def finish(self, seconds: float) -> None:
        """When nobody publishes any more and `run` has ended: drain for this long. What is left waits on disk."""
        self._flights.close()
        await self._draining.finish(seconds)

    async def check(self) -> None:
        """Return when events can be made safe: for readiness. A log that is away does not matter while the spool works.

        Raises `BrokerUnavailable`.
        """
        if self._outage.is_on:
            await self._spool.check()

    def depth(self) -> SpoolDepth:
        """What lies in the spool now."""
        spool = self._spool
        return SpoolDepth(spool.events, spool.disk_bytes, spool.oldest_seconds, self._outage.is_on)

    def _spool_all(self) -> None:
        """The log is away: what waits for it goes to the spool as it came, and before all that follows."""
        self._outage.begin()
        for task, message in self._flights.call_back():
            self._called_back[task] = self._spool.keep(message)
        self._spool.stirred.set()


def _spooled(message: Message) -> TopicPartition:
    return TopicPartition(message.topic, SPOOLED)


@asynccontextmanager
async def open_publisher(
    app: web.Application, publisher: Producer, probe: Probe, options: SpoolOptions, log: FilteringBoundLogger,
    registry: CollectorRegistry,
) -> AsyncIterator[SpoolingPublisher]:  # fmt: skip
    """`publisher`, whose deadline is `options.produce_seconds`, with its spool, and the task of `app` that empties it.

    To be left before `publisher` is.

    Entering succeeds when the spool's disk is of no use; a line in the log says so.
    """
    metrics = SpoolMetrics(registry)
    async with open_spool(options.folder, log, metrics, options.max_bytes) as spool:
        keeping = SpoolingPublisher(publisher, spool, probe, log, options.produce_seconds)
        metrics.watch(keeping.depth)
        try:
            async with background_task(app, "spool", keeping.run()):
                yield keeping
        finally:
            await keeping.finish(options.drain_seconds)
