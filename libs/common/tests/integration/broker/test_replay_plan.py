"""The plan of a replay: its range and coverage, on both brokers."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.embedded import open_embedded_broker
from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Topic
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.replay.plan import ReplayCheckpoint, plan_replay
from safevideo_common.replay.request import ReplayParameters
from safevideo_testkit.broker_helpers import DAY_MS, message, publish_in_order
from safevideo_testkit.eventually import DEADLINE_SECONDS

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def planned(
    broker: Broker,
    topic: str,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> ReplayCheckpoint:
    async with broker.reader("test") as reader:
        return await plan_replay(reader, ReplayParameters(topic, "sync-worker", since, until), now or utc_now())


async def publish_at(broker: Broker, topic: str, value: str) -> datetime:
    """Publish a value and return its time. A later record is later by at least a millisecond."""
    ((partition, offset),) = await publish_in_order(broker, [message(topic, "key", value)])
    async with broker.reader("test") as reader:
        (record,) = await reader.read(partition, offset, 1)
    while time.time_ns() // 1_000_000 <= record.timestamp_ms:
        pass
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)


async def test_plan_accepts_open_ends_and_excludes_the_end(broker: Broker, topic: str) -> None:
    first = await publish_at(broker, topic, "a")
    second = await publish_at(broker, topic, "b")
    await publish_at(broker, topic, "c")
    assert (await planned(broker, topic)).total == 3
    assert (await planned(broker, topic, since=second)).total == 2
    assert (await planned(broker, topic, until=second)).total == 1
    assert (await planned(broker, topic, first, second + timedelta(milliseconds=1))).total == 2
    assert (await planned(broker, topic, since=utc_now() + timedelta(days=1))).total == 0


async def test_plan_excludes_records_published_after_it(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(8)])
    checkpoint = await planned(broker, topic)
    await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(8)])
    assert checkpoint.total == sum(checkpoint.ends.values()) == 8


async def test_coverage_is_complete_if_nothing_was_deleted(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, "key")])
    coverage = (await planned(broker, topic, since=LONG_AGO)).coverage
    assert (coverage.is_complete, coverage.requested_from, coverage.available_from) == (True, rfc3339(LONG_AGO), None)


async def test_coverage_names_the_oldest_record_on_kafka(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    await publish_at(kafka_broker, kafka_topic, "a")
    oldest = await publish_at(kafka_broker, kafka_topic, "b")
    await _delete(kafka_broker, kafka_topic, kafka_bootstrap_servers, before=1)
    coverage = (await planned(kafka_broker, kafka_topic, since=LONG_AGO)).coverage
    assert (coverage.is_complete, coverage.available_from) == (False, rfc3339(oldest))
    assert (await planned(kafka_broker, kafka_topic, since=oldest)).coverage.is_complete
    assert not (await planned(kafka_broker, kafka_topic)).coverage.is_complete
    assert (await planned(kafka_broker, kafka_topic)).total == 1


async def test_coverage_of_an_empty_partition_begins_at_the_retention(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    await publish_at(kafka_broker, kafka_topic, "a")
    await _delete(kafka_broker, kafka_topic, kafka_bootstrap_servers, before=1)
    now = utc_now()
    coverage = (await planned(kafka_broker, kafka_topic, since=now - timedelta(days=31), now=now)).coverage
    assert (coverage.is_complete, coverage.available_from) == (False, rfc3339(now - timedelta(days=30)))
    assert (await planned(kafka_broker, kafka_topic, since=now - timedelta(days=29), now=now)).coverage.is_complete


async def test_coverage_names_the_oldest_record_on_the_embedded_broker(tmp_path: Path) -> None:
    async with open_embedded_broker(tmp_path) as broker:
        await broker.create_topics([Topic("events", 1, DAY_MS)])
        await publish_in_order(broker, [message("events", "key") for _ in range(5)])
    with closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET timestamp_ms = timestamp_ms - ?", (2 * DAY_MS,))
    async with open_embedded_broker(tmp_path) as broker:
        oldest = await publish_at(broker, "events", "new")
        checkpoint = await _wait_until_deleted(lambda: planned(broker, "events", since=LONG_AGO))
    assert (checkpoint.coverage.is_complete, checkpoint.coverage.available_from) == (False, rfc3339(oldest))
    assert (checkpoint.next, checkpoint.total) == ({"0": 5}, 1)


@pytest.mark.parametrize(("start", "deleted", "next_offset"), [(3, 0, 5), (5, 0, 5), (8, 3, 8), (20, 5, 10)])
async def test_checkpoint_counts_records_deleted_during_the_replay(
    broker: Broker, topic: str, start: int, deleted: int, next_offset: int
) -> None:
    checkpoint = await planned(broker, topic)
    checkpoint.next["0"], checkpoint.ends["0"] = 5, 10
    checkpoint.skip_deleted(0, start)
    assert (checkpoint.coverage.deleted_meanwhile, checkpoint.next["0"]) == (deleted, next_offset)
    assert checkpoint.coverage.is_complete is (deleted == 0)


async def _delete(broker: KafkaBroker, topic: str, servers: str, before: int) -> None:
    async with broker.reader("test") as reader:
        (partition,) = (each for each, end in (await reader.end_offsets(topic)).items() if end)
    async with open_admin(servers, "test", 5_000) as admin:
        await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset=before)})


async def _wait_until_deleted(plan: Callable[[], Awaitable[ReplayCheckpoint]]) -> ReplayCheckpoint:
    """Wait until retention has deleted the old records."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (checkpoint := await plan()).total > 1:
            pass
    return checkpoint
