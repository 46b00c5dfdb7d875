"""The task that delivers the spool to Kafka, and thereby notices that Kafka is available again.

Events are delivered in the order of the spool. Those of a partition that takes no messages are deferred: they stay on
disk, a task of their own tries them with backoff, and all others pass them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, UNKNOWN_PARTITION, PartitionedProducer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import cancel_and_wait, task_group
from webhook_ingest.publishing.spooling_publisher import InFlightPublishes, PublishRecalled, SpoolingPublisher
from webhook_ingest.spool.reporting import reason_of
from webhook_ingest.spool.segment import StoredEvent
from webhook_ingest.spool.spool import Spool

WINDOW: Final = 2000
"""Events of one attempt: enough to be faster than ingest under full load, and few enough not to block the loop."""

PROBE_WINDOW: Final = 32
"""Events of the first attempt after a failure: enough to reach most partitions, and little work in vain."""

PARTITION_PROBE_WINDOW: Final = 2
"""Events of an attempt to deliver to a partition that took none."""

BACKOFF: Final = Backoff(initial=0.1, maximum=2.0)
"""Its longest delay is the upper bound for how late ingest notices that Kafka is available again."""

ADOPT_SECONDS: Final = 30.0
"""The time between two searches for the spools of dead processes."""

POLL_SECONDS: Final = 0.02

Probe = Callable[[], Awaitable[None]]
"""Raises `BrokerUnavailable` while Kafka is unavailable."""


class DeliveryResult(NamedTuple):
    """The result of one attempt."""

    delivered: Sequence[StoredEvent]
    acknowledged: frozenset[TopicPartition]
    failed: frozenset[TopicPartition]


class SpoolDrainer:
    """The delivery of the spool. If an event fails, all later events of its partition are recalled."""

    def __init__(
        self, publisher: SpoolingPublisher, producer: PartitionedProducer, spool: Spool, probe: Probe,
        logger: FilteringBoundLogger, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        """Call `probe` if no event says whether Kafka answers. `acknowledged_within` is the timeout of `producer`."""
        self._publisher = publisher
        self._producer = producer
        self._publishes = InFlightPublishes(producer, self._fail, acknowledged_within)
        self._spool = spool
        self._probe = probe
        self._logger = logger
        self._window = PROBE_WINDOW
        self._tasks = asyncio.TaskGroup()
        self._partitions: set[TopicPartition] = set()
        """Those that have a task."""

    async def run(self) -> None:
        """Adopt and drain until cancelled. Only one task may run this."""
        async with task_group() as tasks:
            tasks.create_task(self._adopt(), name="spool-adopt")
            tasks.create_task(self._drain(), name="spool-drain")

    async def finish(self, seconds: float) -> None:
        """Try to empty the spool for this long, after `run` has ended. The rest stays on disk."""
        if self._spool.events:
            draining = asyncio.create_task(self._drain(), name="spool-last-drain")
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self._spool.events and not draining.done():
                        await asyncio.wait([draining], timeout=POLL_SECONDS)
            await cancel_and_wait(draining)
        self._publishes.close()
        if self._spool.events:
            self._logger.warning("Spool kept for the next start", code="SPOOLING", events=self._spool.events)

    async def _adopt(self) -> None:
        while True:
            await self._spool.adopt()
            await asyncio.sleep(ADOPT_SECONDS)

    async def _drain(self) -> None:
        async with task_group() as self._tasks:
            for partition in self._spool.deferred:
                self._start(partition)
            await self._drain_in_order()

    async def _drain_in_order(self) -> None:
        failures = 0
        while True:
            if not self._spool.unread and not self._publisher.is_kafka_unavailable:
                if self._spool.is_idle:
                    self._publisher.forget_unavailable(self._spool.deferred)
                await self._spool.wait(ADOPT_SECONDS)
            elif await self._attempt():
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(BACKOFF.delay(failures))

    async def _drain_partition(self, partition: TopicPartition) -> None:
        failures, window = 0, PARTITION_PROBE_WINDOW
        try:
            while partition in self._spool.deferred:
                delivery = await self._attempt_partition(partition, window)
                if delivery is not None and not delivery.failed:
                    failures, window = 0, min(WINDOW, 4 * window)
                else:
                    failures = 1 if delivery and delivery.acknowledged else failures + 1
                    window = PARTITION_PROBE_WINDOW
                    await asyncio.sleep(BACKOFF.delay(failures))
        finally:
            self._partitions.discard(partition)
        self._spool.wake()

    def _start(self, partition: TopicPartition) -> None:
        if partition not in self._partitions:
            self._partitions.add(partition)
            name = f"spool-drain-{partition.topic}-{partition.partition}"
            self._tasks.create_task(self._drain_partition(partition), name=name)

    async def _attempt(self) -> bool:
        """Deliver a window of events, or call the probe if there is none. Return True if Kafka answers."""
        try:
            window = await self._spool.next_batch(self._window)
        except OSError as error:
            self._log_unreadable(error)
            return False
        if not window:
            return await self._probe_kafka() and not self._spool.unread
        delivery = await self._deliver(window, None)
        if not delivery.acknowledged and self._publisher.is_kafka_unavailable:
            self._window = PROBE_WINDOW
            if not await self._probe_kafka():
                return False
        self._window = min(WINDOW, 4 * self._window)
        left = set(window) - set(delivery.delivered)
        for partition in delivery.failed:
            self._publisher.partition_unavailable(partition)
            self._defer([stored for stored in window if stored in left], partition, None)
        return True

    async def _attempt_partition(self, partition: TopicPartition, window: int) -> DeliveryResult | None:
        """Deliver events that wait for the partition. Return None if they cannot be read."""
        try:
            events = await self._spool.next_deferred(partition, window)
        except OSError as error:
            self._log_unreadable(error)
            return None
        delivery = await self._deliver(events, partition)
        left = [stored for stored in events if stored not in set(delivery.delivered)]
        for other in delivery.failed - {partition}:  # it was not known for which partition they wait
            self._publisher.partition_unavailable(other)
            self._defer(left, other, partition)
        return delivery

    async def _deliver(self, window: Sequence[StoredEvent], source: TopicPartition | None) -> DeliveryResult:
        """Publish the events of `window`, but for those that must wait for another partition than `source`."""
        ready: list[tuple[StoredEvent, TopicPartition]] = []
        waiting: dict[TopicPartition, list[StoredEvent]] = {}
        for stored in window:
            partition = self._partition_of(stored.event.message, source)
            if partition != source and self._must_wait(partition):
                waiting.setdefault(partition, []).append(stored)
            else:
                ready.append((stored, partition))
        for partition, events in waiting.items():
            self._spool.defer(events, partition, source)
            self._start(partition)
        return await self._publish_all(ready, source)

    async def _publish_all(
        self, ready: Sequence[tuple[StoredEvent, TopicPartition]], source: TopicPartition | None
    ) -> DeliveryResult:
        delivered: list[StoredEvent] = []
        acknowledged: set[TopicPartition] = set()
        failed: set[TopicPartition] = set()

        async def publish(stored: StoredEvent, partition: TopicPartition) -> None:
            if partition in failed:
                return  # it must not overtake the event that failed
            try:
                await self._publishes.publish(stored.event.message, partition)
            except PublishRecalled:
                failed.add(partition)
                return
            except PayloadTooLarge:
                self._spool.reject(stored)
            except Exception as error:  # noqa: BLE001 - whatever it is, the event stays in the spool, to be tried again
                name = type(error).__name__
                self._logger.error("Spooled event not delivered", code="SPOOL_DELIVERY_FAILED", error=name)
                failed.add(partition)
                self._fail(partition)
                return
            delivered.append(stored)
            acknowledged.add(partition)

        try:
            async with task_group() as group:
                for stored, partition in ready:
                    group.create_task(publish(stored, partition), name="spool-delivery")
        finally:
            self._spool.mark_delivered(delivered, source)
        if acknowledged:
            self._publisher.acknowledged(acknowledged - failed)
        return DeliveryResult(delivered, frozenset(acknowledged), frozenset(failed))

    def _defer(self, left: Sequence[StoredEvent], partition: TopicPartition, source: TopicPartition | None) -> None:
        events = [each for each in left if self._partition_of(each.event.message, source) == partition]
        if events:
            self._spool.defer(events, partition, source)
            self._start(partition)

    def _partition_of(self, message: Message, source: TopicPartition | None) -> TopicPartition:
        """Return the partition of the message; the unknown one of its topic while earlier events wait for that.

        An event that waits for a partition never goes back to the unknown one: two tasks would pass it to and fro for
        ever. It cannot overtake: events go from the unknown partition to a known one in their order.
        """
        unknown = TopicPartition(message.topic, UNKNOWN_PARTITION)
        if source is None and unknown in self._spool.deferred:
            return unknown
        return self._producer.partition_of(message)

    def _must_wait(self, partition: TopicPartition) -> bool:
        return partition in self._spool.deferred or self._publisher.is_unavailable(partition)

    async def _probe_kafka(self) -> bool:
        self._spool.mark_delivered(())  # nothing is readable any more: this stops counting unreadable events
        try:
            await self._probe()
        except BrokerUnavailable:
            return False
        self._publisher.kafka_answers()
        return True

    def _fail(self, partition: TopicPartition) -> None:
        self._publisher.partition_failed(partition)
        self._publishes.recall(None if self._publisher.is_kafka_unavailable else partition)

    def _log_unreadable(self, error: OSError) -> None:
        self._logger.error("Spool cannot be read", code="SPOOL_UNREADABLE", reason=reason_of(error))
