"""A door's publisher with its spool, behind a gate that takes the log away: what the spool's tests share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.spool import Spool

TOPIC: Final = "events"


class BrokerGate:
    """In front of a real publisher: `open`; `shut`, it refuses at once; `hanging`, it answers when it is open again.

    `broken`, it fails as it never should.
    """

    def __init__(self, publisher: Producer, state: str) -> None:
        self.state = state
        self.room: int | None = None
        """How many more may pass before it is no longer open."""
        self.afterwards = "shut"
        self.always_passes = b""
        """A key that it is open for."""
        self._publisher = publisher

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        while self.state == "hanging" and message.key != self.always_passes:
            await asyncio.sleep(0.002)
        if self.state == "broken":
            raise ZeroDivisionError("a fault of ours")
        if self.state == "shut":
            raise BrokerUnavailable("the gate is shut", retry_after=1)
        if self.room is not None:
            self.room -= 1
            self.state = self.state if self.room else self.afterwards
        return await self._publisher.publish(message)

    async def probe(self) -> None:
        if self.state != "open":
            raise BrokerUnavailable("the gate is not open", retry_after=1)

    def open(self) -> None:
        self.room, self.state = None, "open"


class Watched:
    """A publisher that knows which tasks have called it, and which of them still wait."""

    def __init__(self, publisher: Producer) -> None:
        self.calls = 0
        self.callers: set[asyncio.Task[object] | None] = set()
        self.waiting: set[asyncio.Task[object] | None] = set()
        self._publisher = publisher

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
    """One process's way to the log."""

    keeping: SpoolingPublisher
    spool: Spool
    gate: BrokerGate
    watched: Watched
    """Before the gate."""
    registry: CollectorRegistry

    async def publish(self, key: str, value: str) -> bool:
        """Publish it; whether it went to the spool."""
        partition, _ = await self.keeping.publish(event(key, value))
        return partition.partition < 0

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"safevideo_spool_{name}") or 0.0

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not is_so():
                await asyncio.sleep(0.005)

    async def emptied(self) -> None:
        await self.until(lambda: not self.keeping.depth().events and not self.keeping.depth().is_away)


def event(key: str, value: str) -> Message:
    return Message(TOPIC, key.encode(), value.encode(), (("ce_id", value[-10:].encode()),))


Opened = Callable[..., AbstractAsyncContextManager[SpoolHarness]]
Logged = Callable[[], Awaitable[dict[str, list[str]]]]
