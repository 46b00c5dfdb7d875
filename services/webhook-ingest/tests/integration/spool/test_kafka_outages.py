"""The spool in front of a real Kafka that hangs or dies during a stream of events."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Message, Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS, read_by_key
from safevideo_testkit.eventually import DEADLINE_SECONDS, running_task
from safevideo_testkit.harness.spool import Watched
from webhook_ingest.publishing.spool_drainer import SpoolDrainer
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import open_spool

KEYS = 40
DRAINER_CALLS = 3
"""Of the broker, in an outage that lasts for several attempts of the drainer."""


@dataclass(slots=True)
class Stream:
    """Senders that publish one event after the other, each for its own key, and a record of the results."""

    publisher: SpoolingPublisher
    topic: str
    watched: Watched
    sent: dict[str, list[str]] = field(default_factory=dict)
    answers: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as senders:
            for number in range(KEYS):
                self._tasks.add(senders.create_task(self._send(f"sg_{number}")))

    async def until_unavailable(self) -> None:
        """Return when Kafka counts as unavailable. Since then no sender waits for it."""
        await _until(lambda: self.publisher.is_kafka_unavailable)
        self.watched.callers.clear()
        self.watched.calls = 0
        assert all(task.cancelling() for task in self._tasks & self.watched.waiting)

    def assert_nobody_waited(self) -> None:
        """Assert that nobody but the drainer has called Kafka since it is unavailable."""
        assert not self._tasks & self.watched.callers

    async def _send(self, key: str) -> None:
        values = self.sent[key] = list[str]()
        while not self.stop.is_set():
            value = str(len(values))
            await self.publisher.publish(
                Message(self.topic, key.encode(), value.encode(), (("ce_id", value.encode()),))
            )
            self.answers += 1
            values.append(value)
            await asyncio.sleep(0.02)  # so few that the spool of a long outage is drained soon


@asynccontextmanager
async def streaming(kafka: KafkaBroker, root: Path, log: FilteringBoundLogger) -> AsyncIterator[Stream]:
    """Run the block in the middle of the stream. After it, Kafka has all events in the order of each key."""
    topic = f"test-{secrets.token_hex(6)}"
    await kafka.create_topics([Topic(topic, PARTITIONS, DAY_MS)])
    async with (
        kafka.producer("test") as producer,
        open_spool(root, SpoolEvents(log, CollectorRegistry())) as spool,
    ):
        watched = Watched(producer)
        publisher = SpoolingPublisher(watched, spool, log)
        drainer = SpoolDrainer(publisher, watched, spool, kafka.probe, log)
        async with running_task(drainer.run()):
            stream = Stream(publisher, topic, watched)
            running = asyncio.create_task(stream.run(), name="test-stream")
            await _until(lambda: stream.answers > 10 * KEYS)
            yield stream
            await _until(lambda: not spool.events and not publisher.is_kafka_unavailable)
            stream.stop.set()
            await running
        publisher.close()
        await drainer.finish(DEADLINE_SECONDS)
    found = await read_by_key(kafka, topic)
    assert {
        key.decode(): list(dict.fromkeys(value.decode() for value in values)) for key, values in found.items()
    } == stream.sent


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def kafka(kafka_bootstrap_servers: str) -> KafkaBroker:
    return KafkaBroker(kafka_bootstrap_servers)


async def test_publisher_notices_hanging_kafka_once_and_delivers_everything_in_order(
    kafka: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka, tmp_path / "spool", log) as stream:
        with kafka_server.paused():
            await stream.until_unavailable()
            answered = stream.answers
            await _until(lambda: stream.watched.calls >= DRAINER_CALLS and stream.answers > answered + 10 * KEYS)
            stream.assert_nobody_waited()
        assert stream.publisher.depth().events > 0


async def test_publisher_delivers_everything_in_order_after_kafka_restart(
    kafka: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka, tmp_path / "spool", log) as stream:
        kafka_server.kill()
        await stream.until_unavailable()
        answered = stream.answers
        await _until(lambda: stream.answers > answered + 10 * KEYS)
        stream.assert_nobody_waited()
        await asyncio.to_thread(kafka_server.start)


async def test_publisher_delivers_everything_in_order_when_kafka_hangs_repeatedly(
    kafka: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka, tmp_path / "spool", log) as stream:
        for _ in range(3):
            with kafka_server.paused():
                await _until(lambda: stream.publisher.is_kafka_unavailable)
            await _until(lambda: not stream.publisher.is_kafka_unavailable)
