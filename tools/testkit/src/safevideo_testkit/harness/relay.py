"""A relay on each stack, with the means to let it die, freeze and fail at its port."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import BatchProducer, Broker
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.metrics import RelayMetrics
from safevideo_common.outbox.relay import LEASE_SECONDS, OutboxRelay, RelayLease, watch_depth
from safevideo_testkit.broker_helpers import message, read_by_key
from safevideo_testkit.eventually import eventually, running_task


class SimulatedCrash(Exception):
    """Stands for the death of a process."""


class InterceptedPublisher:
    """The real publisher, and what a test puts in its way: `before` and `after` are called with each round."""

    def __init__(self, publisher: BatchProducer) -> None:
        self._publisher = publisher
        self.rounds = 0
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """As it is."""
        return await self._publisher.publish(message)

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        """Once it is let go; `before` and `after` may raise."""
        self.rounds += 1
        await self.let_go.wait()
        self.before(self.rounds)
        await self._publisher.publish_batch(messages)
        self.after(self.rounds)


class RelayHarness:
    """One outbox and one topic; any number of relays between them."""

    def __init__(self, database: Database, broker: Broker, topic: str, log: FilteringBoundLogger) -> None:
        self.database = database
        self.topic = topic
        self.registry = CollectorRegistry()
        self.stirred = asyncio.Event()
        self._broker = broker
        self._log = log
        self._metrics = RelayMetrics(self.registry)

    async def record(self, *values: str | bytes, keys: int = 1) -> None:
        """Put messages into the outbox, in one transaction; keys take turns."""
        async with self.database.transaction() as tx:
            messages = [message(self.topic, f"sg_{place % keys}", value) for place, value in enumerate(values)]
            await outbox_store.record(tx, messages, utc_now())
        self.stirred.set()

    @asynccontextmanager
    async def relay(
        self, lease_seconds: float = LEASE_SECONDS
    ) -> AsyncIterator[tuple[OutboxRelay, InterceptedPublisher]]:
        """A relay of its own process, so to say; it does not run yet."""
        async with self._broker.producer("relay") as publisher:
            port = InterceptedPublisher(publisher)
            lease = RelayLease(self.database, lease_seconds)
            yield OutboxRelay(self.database, port, lease, self.stirred, self._log, self._metrics), port

    @asynccontextmanager
    async def running(self, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[InterceptedPublisher]:
        """A relay that runs as long as the block lasts."""
        async with self.relay(lease_seconds) as (relay, port), running_task(relay.run()):
            yield port

    async def measuring(self, later: timedelta) -> None:
        """Measure what waits, for ever, by a clock that is so much ahead."""
        await watch_depth(self.database, lambda: utc_now() + later, self._metrics)

    async def waiting(self) -> int:
        """Rows in the outbox."""
        async with self.database.read_connection() as reading:
            return (await outbox_store.depth(reading)).rows

    async def until_empty(self) -> None:
        """Return once nothing waits."""

        async def is_empty() -> bool:
            return not await self.waiting()

        await eventually(is_empty)

    async def published(self, key: str = "sg_0") -> list[str]:
        """What the log has of a key, in order."""
        found = await read_by_key(self._broker, self.topic)
        return [value.decode() for value in found.get(key.encode(), [])]

    async def first_published(self, key: str = "sg_0") -> list[str]:
        """The same without repeats."""
        return list(dict.fromkeys(await self.published(key)))

    def counted(self, name: str) -> float:
        """The value of `safevideo_outbox_<name>`."""
        return self.registry.get_sample_value(f"safevideo_outbox_{name}") or 0.0
