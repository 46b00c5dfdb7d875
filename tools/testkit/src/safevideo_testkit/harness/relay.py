"""A harness for the outbox relay: a test can crash it, freeze it and let it fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, BatchProducer, Broker
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.metrics import RelayMetrics
from safevideo_common.outbox.relay import LEASE_SECONDS, OutboxRelay, RelayLease, monitor_depth
from safevideo_testkit.broker_helpers import message, read_by_key
from safevideo_testkit.eventually import eventually, running_task


class SimulatedCrash(Exception):
    """Stands for the crash of a process."""


class InterceptedPublisher:
    """A producer with hooks `before` and `after` each batch. The hooks get the number of the batch and may raise."""

    def __init__(self, publisher: BatchProducer) -> None:
        self._publisher = publisher
        self.sent: list[Message] = []
        """All messages of all batches."""
        self.batches = 0
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None
        self.resumed = asyncio.Event()
        self.resumed.set()

    def partition_of(self, message: Message) -> TopicPartition:
        """Return what the producer says."""
        return self._publisher.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Publish without hooks."""
        return await self._publisher.publish(message)

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Publish a batch, once `resumed` is set."""
        self.batches += 1
        await self.resumed.wait()
        self.before(self.batches)
        self.sent += messages
        await self._publisher.publish_batch(messages)
        self.after(self.batches)


class RelayHarness:
    """An outbox, a topic, and any number of relays."""

    def __init__(self, database: Database, broker: Broker, topic: str, logger: FilteringBoundLogger) -> None:
        self.database = database
        self.topic = topic
        self.registry = CollectorRegistry()
        self.wakeup = asyncio.Event()
        self.wrap: Callable[[BatchProducer], BatchProducer] = lambda producer: producer
        """Put a fault between relay and broker."""
        self.acknowledged_within = ACKNOWLEDGED_WITHIN_SECONDS
        """Of the relays' producers. A message that is acknowledged later is published again."""
        self._broker = broker
        self._logger = logger
        self._metrics = RelayMetrics(self.registry)

    async def record(self, *values: str | bytes, keys: int = 1) -> None:
        """Insert messages into the outbox in one transaction, with `keys` alternating keys."""
        async with self.database.transaction() as tx:
            messages = [message(self.topic, f"sg_{index % keys}", value) for index, value in enumerate(values)]
            await outbox_store.record(tx, messages, utc_now())
        self.wakeup.set()

    @asynccontextmanager
    async def relay(
        self, lease_seconds: float = LEASE_SECONDS
    ) -> AsyncIterator[tuple[OutboxRelay, InterceptedPublisher]]:
        """Create a relay that does not run, like one of another process."""
        async with self._broker.producer("relay", acknowledged_within=self.acknowledged_within) as publisher:
            intercepted = InterceptedPublisher(self.wrap(publisher))
            lease = RelayLease(self.database, lease_seconds)
            yield (
                OutboxRelay(
                    self.database, intercepted, self._broker.probe, lease, self.wakeup, self._logger, self._metrics
                ),
                intercepted,
            )

    @asynccontextmanager
    async def running(self, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[InterceptedPublisher]:
        """Run a relay during the block."""
        async with self.relay(lease_seconds) as (relay, publisher), running_task(relay.run()):
            yield publisher

    async def monitor_depth(self, later: timedelta) -> None:
        """Measure the outbox until cancelled, with a clock that is ahead by `later`."""
        await monitor_depth(self.database, lambda: utc_now() + later, self._metrics)

    async def depth(self) -> int:
        """Return the number of rows in the outbox."""
        async with self.database.read_connection() as reading:
            return (await outbox_store.depth(reading)).rows

    async def until_empty(self) -> None:
        """Wait until the outbox is empty."""

        async def is_empty() -> bool:
            return not await self.depth()

        await eventually(is_empty)

    async def published(self, key: str = "sg_0") -> list[str]:
        """Return the published messages of a key, in order."""
        found = await read_by_key(self._broker, self.topic)
        return [value.decode() for value in found.get(key.encode(), [])]

    async def first_published(self, key: str = "sg_0") -> list[str]:
        """Return the first copies of the messages of a key, in order."""
        return list(dict.fromkeys(await self.published(key)))

    def metric(self, name: str) -> float:
        """Return the value of `safevideo_outbox_<name>`."""
        return self.registry.get_sample_value(f"safevideo_outbox_{name}") or 0.0
