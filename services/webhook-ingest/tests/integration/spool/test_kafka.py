"""The spool before a real Kafka that hangs or dies in a stream of events."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Message, Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.spool import Watched
from webhook_ingest.publishing.spool_drainer import PROBE_WINDOW
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolMetrics
from webhook_ingest.spool.spool import open_spool

KEYS = 40


class Answer(NamedTuple):
    """Whether Kafka was taken to be away when the event was sent, and whether Kafka was asked before the answer."""

    was_away: bool
    has_asked_kafka: bool


@dataclass(slots=True)
class Stream:
    """Senders that each publish one event after the other for a key of their own, and a ledger of what was answered."""

    keeping: SpoolingPublisher
    publisher: Watched
    topic: str
    sent: dict[str, list[str]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as senders:
            for number in range(KEYS):
                senders.create_task(self._send(f"sg_{number}"))

    async def _send(self, key: str) -> None:
        values = self.sent[key] = list[str]()
        while not self.stop.is_set():
            was_away, value = self.keeping.depth().is_away, str(len(values))
            self.publisher.callers.discard(asyncio.current_task())
            await self.keeping.publish(Message(self.topic, key.encode(), value.encode(), (("ce_id", value.encode()),)))
            self.answers.append(Answer(was_away, asyncio.current_task() in self.publisher.callers))
            values.append(value)
            await asyncio.sleep(0.005)

    def answered_while_away(self) -> Sequence[Answer]:
        return [answer for answer in self.answers if answer.was_away]


@asynccontextmanager
async def streaming(kafka_broker: KafkaBroker, root: Path, log: FilteringBoundLogger) -> AsyncIterator[Stream]:
    """In the middle of the stream in the block; after it, Kafka has all of it in the order of each key."""
    topic = f"test-{secrets.token_hex(6)}"
    await kafka_broker.create_topics([Topic(topic, PARTITIONS, DAY_MS)])
    async with (
        kafka_broker.producer("test") as publisher,
        open_spool(root, log, SpoolMetrics(CollectorRegistry())) as spool,
    ):
        keeping = SpoolingPublisher(watched := Watched(publisher), spool, kafka_broker.probe, log)
        draining = asyncio.create_task(keeping.run(), name="test-draining")
        stream = Stream(keeping, watched, topic)
        running = asyncio.create_task(stream.run(), name="test-stream")
        await _until(lambda: len(stream.answers) > 10 * KEYS)
        yield stream
        await _until(lambda: not keeping.depth().events and not keeping.depth().is_away)
        stream.stop.set()
        await running
        draining.cancel()
        await asyncio.wait([draining])
        await keeping.finish(5.0)
    found = await read(kafka_broker, topic)
    assert {key: list(dict.fromkeys(values)) for key, values in found.items()} == stream.sent


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


async def read(kafka_broker: KafkaBroker, topic: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    async with kafka_broker.reader("test") as reader:
        for partition, end in (await reader.end_offsets(topic)).items():
            at = 0
            while at < end:
                for record in await reader.read(partition, at, 1000):
                    found.setdefault(record.key.decode(), []).append(record.value.decode())
                    at = record.offset + 1
    return found


@pytest.fixture
def kafka_broker(kafka_bootstrap_servers: str) -> KafkaBroker:
    return KafkaBroker(kafka_bootstrap_servers)


async def test_a_kafka_that_hangs_is_noticed_once_and_gets_everything_in_order(
    kafka_broker: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka_broker, tmp_path / "spool", log) as stream:
        with kafka_server.paused():
            await _until(lambda: stream.keeping.depth().is_away)
            calls = stream.publisher.calls
            await _until(lambda: stream.publisher.calls > calls + 2 * PROBE_WINDOW)  # attempts of the spool's task
            await _until(lambda: len(stream.answered_while_away()) > 10 * KEYS)
            assert not any(answer.has_asked_kafka for answer in stream.answered_while_away())
        assert stream.keeping.depth().events > 0


async def test_a_kafka_that_is_killed_and_started_again_gets_everything_in_order(
    kafka_broker: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka_broker, tmp_path / "spool", log) as stream:
        kafka_server.kill()
        await _until(lambda: stream.keeping.depth().is_away)
        await asyncio.to_thread(kafka_server.start)
        assert stream.answered_while_away()
        assert not any(answer.has_asked_kafka for answer in stream.answered_while_away())


async def test_a_kafka_that_hangs_again_and_again_gets_everything_in_order(
    kafka_broker: KafkaBroker, kafka_server: RunningServer, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    async with streaming(kafka_broker, tmp_path / "spool", log) as stream:
        for _ in range(3):
            with kafka_server.paused():
                await _until(lambda: stream.keeping.depth().is_away)
            await _until(lambda: not stream.keeping.depth().is_away)
