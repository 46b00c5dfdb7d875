"""A door's publisher with its spool, on a real log that can be taken away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.factory import open_log
from safevideo_common.messaging.port import EventLog, Message, Publisher, Topic, TopicPartition
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.log_steps import DAY_MS, PARTITIONS
from webhook_ingest.adapters.safekeeping import Safekeeping
from webhook_ingest.adapters.spool.metrics import SpoolMetrics
from webhook_ingest.adapters.spool.spool import MAX_BYTES, Spool, open_spool

TOPIC = "events"
PATIENCE_SECONDS = 30.0


class Gate:
    """In front of a real publisher: `open`; `shut`, it refuses at once; `hanging`, it answers when it is open again.

    `broken`, it fails as it never should.
    """

    def __init__(self, publisher: Publisher, state: str) -> None:
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
            raise LogUnavailable("the gate is shut", retry_after=1)
        if self.room is not None:
            self.room -= 1
            self.state = self.state if self.room else self.afterwards
        return await self._publisher.publish(message)

    async def probe(self) -> None:
        if self.state != "open":
            raise LogUnavailable("the gate is not open", retry_after=1)

    def open(self) -> None:
        self.room, self.state = None, "open"


@dataclass(frozen=True, slots=True)
class Bench:
    """One process's way to the log."""

    keeping: Safekeeping
    spool: Spool
    gate: Gate
    registry: CollectorRegistry

    async def publish(self, key: str, value: str) -> bool:
        """Publish it; whether it went to the spool."""
        partition, _ = await self.keeping.publish(event(key, value))
        return partition.partition < 0

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"safevideo_spool_{name}") or 0.0

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so():
                await asyncio.sleep(0.005)

    async def emptied(self) -> None:
        await self.until(lambda: not self.keeping.depth().events and not self.keeping.depth().is_away)


def event(key: str, value: str) -> Message:
    return Message(TOPIC, key.encode(), value.encode(), (("ce_id", value[-10:].encode()),))


Opened = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
async def event_log(tmp_path: Path) -> AsyncIterator[EventLog]:
    async with open_log("", tmp_path / "log") as log:
        await log.create_topics([Topic(TOPIC, PARTITIONS, DAY_MS)])
        yield log


@pytest.fixture
def opened(event_log: EventLog, log: FilteringBoundLogger) -> Opened:
    """Opens a bench on a spool's folder. It ends as a service does: its task first, then it drains for a while."""

    @asynccontextmanager
    async def open_bench(
        root: Path, *, max_bytes: int = MAX_BYTES, deadline: float = 0.2, drain: float = 0.0, state: str = "open"
    ) -> AsyncIterator[Bench]:
        metrics = SpoolMetrics(registry := CollectorRegistry())
        async with AsyncExitStack() as stack:
            gate = Gate(await stack.enter_async_context(event_log.publisher("test")), state)
            spool = await stack.enter_async_context(open_spool(root, log, metrics, max_bytes))
            keeping = Safekeeping(gate, spool, gate.probe, log, deadline)
            metrics.watch(keeping.depth)
            task = asyncio.create_task(keeping.run(), name="test-draining")
            try:
                yield Bench(keeping, spool, gate, registry)
            finally:
                task.cancel()
                await asyncio.wait([task])
                await keeping.finish(drain)

    return open_bench


@pytest.fixture
async def bench(opened: Opened, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path / "spool") as bench:
        yield bench


@pytest.fixture
def logged(event_log: EventLog) -> Callable[[], Awaitable[dict[str, list[str]]]]:
    """By key, the values of all that is in the log, in order."""

    async def read() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        async with event_log.reader("test") as reader:
            for partition, end in (await reader.end_offsets(TOPIC)).items():
                at = 0
                while at < end:
                    for record in await reader.read(partition, at, 1000):
                        found.setdefault(record.key.decode(), []).append(record.value.decode())
                        at = record.offset + 1
        return found

    return read
