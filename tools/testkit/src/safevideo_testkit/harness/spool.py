"""A publisher with its spool behind a gate that makes the broker unavailable: the harness of the spool's tests."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import UNKNOWN_PARTITION, PartitionedProducer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.spool import Spool

TOPIC: Final = "events"


class BrokerGate:
    """A producer in front of a real one.

    `open`: it publishes. `shut`: it rejects at once. `hanging`: it waits until it is open. `broken`: it raises an
    unexpected error.
    """

    def __init__(self, producer: PartitionedProducer, state: str) -> None:
        self.state = state
        self.remaining: int | None = None
        """The number of messages after which the state changes to `next_state`."""
        self.next_state = "shut"
        self.exempt_key = b""
        """Messages with this key pass a hanging gate."""
        self.answers_probes = True
        """False: probes fail even while it is open."""
        self.stuck: set[int] = set()
        """Partitions whose messages hang."""
        self.knows_partitions = True
        """False: as before the first answer of the broker."""
        self._waiting: defaultdict[bytes, deque[object]] = defaultdict(deque)
        """The messages of each key, oldest first."""
        self._producer = producer

    def partition_of(self, message: Message) -> TopicPartition:
        if not self.knows_partitions:
            return TopicPartition(message.topic, UNKNOWN_PARTITION)
        return self._producer.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        ticket = object()
        waiting = self._waiting[message.key]
        waiting.append(ticket)
        try:
            while self._hangs(message) or waiting[0] is not ticket:  # in order, whichever task wakes first
                await asyncio.sleep(0.002)
        finally:
            waiting.remove(ticket)
        if self.state == "broken":
            raise ZeroDivisionError("a fault of ours")
        if self.state == "shut":
            raise BrokerUnavailable("the gate is shut", retry_after=1)
        if self.remaining is not None:
            self.remaining -= 1
            self.state = self.state if self.remaining else self.next_state
        return await self._producer.publish(message)

    def _hangs(self, message: Message) -> bool:
        if self.partition_of(message).partition in self.stuck:
            return True
        return self.state == "hanging" and message.key != self.exempt_key

    async def probe(self) -> None:
        if self.state != "open" or not self.answers_probes:
            raise BrokerUnavailable("the gate is not open", retry_after=1)

    def open(self) -> None:
        self.remaining, self.state = None, "open"


class Watched:
    """A publisher that knows which tasks have called it, and which of them still wait."""

    def __init__(self, publisher: PartitionedProducer) -> None:
        self.calls = 0
        self.callers: set[asyncio.Task[object] | None] = set()
        self.waiting: set[asyncio.Task[object] | None] = set()
        self._publisher = publisher

    def partition_of(self, message: Message) -> TopicPartition:
        return self._publisher.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        task = asyncio.current_task()
        self.calls += 1
        self.callers.add(task)
        self.waiting.add(task)
        try:
            return await self._publisher.publish(message)
        finally:
            self.waiting.remove(task)


@dataclass(frozen=True, slots=True)
class SpoolHarness:
    """The publisher of one process with its spool."""

    publisher: SpoolingPublisher
    spool: Spool
    gate: BrokerGate
    watched: Watched
    """Before the gate."""
    registry: CollectorRegistry

    async def publish(self, key: str, value: str) -> bool:
        """Publish an event. Return True if it went to the spool."""
        partition, _ = await self.publisher.publish(event(key, value))
        return partition.partition < 0

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"safevideo_spool_{name}") or 0.0

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)

    async def wait_until_drained(self) -> None:
        def is_drained() -> bool:
            depth = self.publisher.depth()
            return not (depth.events or depth.is_kafka_unavailable or depth.unavailable_partitions)

        await self.wait_until(is_drained)


def event(key: str, value: str) -> Message:
    return Message(TOPIC, key.encode(), value.encode(), (("ce_id", value[-10:].encode()),))


OpenHarness = Callable[..., AbstractAsyncContextManager[SpoolHarness]]
ReadBroker = Callable[[], Awaitable[dict[str, list[str]]]]
