"""The task that delivers the spool to Kafka, and thereby notices that Kafka is available again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, Producer
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from webhook_ingest.publishing.spooling_publisher import InFlightPublishes, PublishRecalled, SpoolingPublisher
from webhook_ingest.spool.reporting import reason_of
from webhook_ingest.spool.segment import StoredEvent
from webhook_ingest.spool.spool import Spool

WINDOW: Final = 2000
"""Events of one attempt: enough to be faster than ingest under full load, and few enough not to block the loop."""

PROBE_WINDOW: Final = 32
"""Events of the first attempt after a failure: enough to reach most partitions, and little work in vain."""

BACKOFF: Final = Backoff(initial=0.1, maximum=2.0)
"""Its longest delay is the upper bound for how late ingest notices that Kafka is available again."""

ADOPT_SECONDS: Final = 30.0
"""The time between two searches for the spools of dead processes."""

Probe = Callable[[], Awaitable[None]]
"""Raises `BrokerUnavailable` while Kafka is unavailable."""


class SpoolDrainer:
    """A task that delivers events in the order of the spool. If an event fails, all events after it are recalled."""

    def __init__(
        self, publisher: SpoolingPublisher, producer: Producer, spool: Spool, probe: Probe,
        logger: FilteringBoundLogger, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        """Call `probe` if there is no event to try Kafka with. `acknowledged_within` is the timeout of `producer`."""
        self._publisher = publisher
        self._publishes = InFlightPublishes(producer, self._fail, acknowledged_within)
        self._spool = spool
        self._probe = probe
        self._logger = logger
        self._window = PROBE_WINDOW
        self._has_failed = False

    async def run(self) -> None:
        """Drain until cancelled. Only one task may run this."""
        loop = asyncio.get_running_loop()
        failures, adopt_at = 0, loop.time()
        while True:
            if loop.time() >= adopt_at:
                adopt_at = loop.time() + ADOPT_SECONDS
                await self._spool.adopt()
            if not self._spool.events and not self._publisher.is_kafka_unavailable:
                await self._spool.wait(adopt_at - loop.time())
            elif await self._attempt():
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(BACKOFF.delay(failures))

    async def finish(self, seconds: float) -> None:
        """Try to empty the spool for this long, after `run` has ended. The rest stays on disk."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._spool.events:
                    if not await self._attempt():
                        await asyncio.sleep(BACKOFF.initial)
        self._publishes.close()
        if self._spool.events:
            self._logger.warning("Spool kept for the next start", code="SPOOLING", events=self._spool.events)

    async def _attempt(self) -> bool:
        """Deliver a window of events, or call the probe if there is none. Return True if all of it succeeded."""
        self._has_failed = False
        try:
            window = await self._spool.next_batch(self._window)
        except OSError as error:
            self._logger.error("Spool cannot be read", code="SPOOL_UNREADABLE", reason=reason_of(error))
            return False
        succeeded = await (self._deliver_all(window) if window else self._probe_kafka())
        if succeeded:
            self._publisher.kafka_recovered()
        return succeeded

    async def _deliver_all(self, window: Sequence[StoredEvent]) -> bool:
        delivered: list[StoredEvent] = []
        try:
            async with asyncio.TaskGroup() as group:
                for stored in window:
                    group.create_task(self._deliver(stored, delivered), name="spool-delivery")
        finally:
            self._spool.mark_delivered(delivered)
        self._window = PROBE_WINDOW if self._has_failed else min(WINDOW, 4 * self._window)
        return not self._has_failed

    async def _deliver(self, stored: StoredEvent, delivered: list[StoredEvent]) -> None:
        if self._has_failed:
            return  # it must not overtake the event that failed
        try:
            await self._publishes.publish(stored.event.message)
        except PublishRecalled:
            return
        except PayloadTooLarge:
            self._spool.reject(stored)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event stays in the spool and is tried again
            self._logger.error("Spooled event not delivered", code="SPOOL_DELIVERY_FAILED", error=type(error).__name__)
            self._fail()
            return
        delivered.append(stored)

    async def _probe_kafka(self) -> bool:
        self._spool.mark_delivered(())  # nothing is readable any more: this stops counting unreadable events
        try:
            await self._probe()
        except BrokerUnavailable:
            return False
        return True

    def _fail(self) -> None:
        self._has_failed = True
        self._publishes.recall()
        self._publisher.kafka_failed()
