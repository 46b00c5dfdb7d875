"""The spool in front of a real Kafka that hangs or dies during a stream of events."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Message, Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS, read_by_key
from safevideo_testkit.eventually import running_task
from webhook_ingest.publishing.spool_drainer import SpoolDrainer
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import open_spool

KEYS = 40
OUTAGE_SECONDS = 4.0


@dataclass(slots=True)
class Stream:
    """Senders that publish one event after the other, each for its own key, and a record of the results."""

    publisher: SpoolingPublisher
    topic: str
    sent: dict[str, list[str]] = field(default_factory=dict)
    answers: list[tuple[float, float]] = field(default_factory=list)
    """The send time of each event, and the seconds until its acknowledgement."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as senders:
            for number in range(KEYS):
                senders.create_task(self._send(f"sg_{number}"))

    async def _send(self, key: str) -> None:
        values = self.sent[key] = list[str]()
        while not self.stop.is_set():
            started, value = time.monotonic(), str(len(values))
            await self.publisher.publish(
                Message(self.topic, key.encode(), value.encode(), (("ce_id", value.encode()),))
            )
            self.answers.append((started, time.monotonic() - started))
            values.append(value)
            await asyncio.sleep(0.005)

    def slowest_since(self, timestamp: float) -> float:
        return max(seconds for started, seconds in self.answers if started > timestamp)


@asynccontextmanager
async def streaming(kafka: KafkaBroker, root: Path, log: FilteringBoundLogger) -> AsyncIterator[Stream]:
    """Run the block in the middle of the stream. After it, Kafka has all events in the order of each key."""
    topic = f"test-{secrets.token_hex(6)}"
    await kafka.create_topics([Topic(topic, PARTITIONS, DAY_MS)])
    async with (
        kafka.producer("test") as producer,
        open_spool(root, SpoolEvents(log, CollectorRegistry())) as spool,
    ):
        publisher = SpoolingPublisher(producer, spool, log)
        drainer = SpoolDrainer(publisher, producer, spool, kafka.probe, log)
        async with running_task(drainer.run()):
            stream = Stream(publisher, topic)
            running = asyncio.create_task(stream.run(), name="test-stream")
            await _until(lambda: len(stream.answers) > 10 * KEYS)
            yield stream
            await _until(lambda: not spool.events and not publisher.is_kafka_unavailable)
            stream.stop.set()
            await running
        publisher.close()
        await drainer.finish(5.0)
    found = await read_by_key(kafka, topic)
    assert {
        key.decode(): list(dict.fromkeys(value.decode() for value in values)) for key, values in found.items()
    } == stream.sent


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
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
            await _until(lambda: stream.publisher.is_kafka_unavailable)
            first_timeout = time.monotonic()
            await asyncio.sleep(OUTAGE_SECONDS)  # the outage lasts for several attempts of the drainer
            assert (
                stream.slowest_since(first_timeout) < ACKNOWLEDGED_WITHIN_SECONDS
            )  # no sender waits for Kafka any more
        assert stream.publisher.depth().events > 0


async def test_publisher_delivers_everything_in_order_after_kafka_restart(
    kafka: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka, tmp_path / "spool", log) as stream:
        kafka_server.kill()
        await _until(lambda: stream.publisher.is_kafka_unavailable)
        first_timeout = time.monotonic()
        await asyncio.to_thread(kafka_server.start)
        assert stream.slowest_since(first_timeout) < ACKNOWLEDGED_WITHIN_SECONDS  # no sender waits for Kafka any more


async def test_publisher_delivers_everything_in_order_when_kafka_hangs_repeatedly(
    kafka: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka, tmp_path / "spool", log) as stream:
        for _ in range(3):
            with kafka_server.paused():
                await _until(lambda: stream.publisher.is_kafka_unavailable)
            await _until(lambda: not stream.publisher.is_kafka_unavailable)
