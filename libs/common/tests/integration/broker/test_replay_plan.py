"""The coverage of a replay is fixed when it begins, and names what the topic has deleted, on both brokers."""

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


async def surveyed(
    broker: Broker,
    topic: str,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> ReplayCheckpoint:
    async with broker.reader("test") as reader:
        return await plan_replay(reader, ReplayParameters(topic, "sync-worker", since, until), now or utc_now())


async def moment_of(broker: Broker, topic: str, value: str) -> datetime:
    """When the record with this value was published; all that comes later is later by a millisecond."""
    ((partition, offset),) = await publish_in_order(broker, [message(topic, "key", value)])
    async with broker.reader("test") as reader:
        (record,) = await reader.read(partition, offset, 1)
    while time.time_ns() // 1_000_000 <= record.timestamp_ms:
        pass
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)


async def test_either_end_may_be_open_and_the_end_is_excluded(broker: Broker, topic: str) -> None:
    first = await moment_of(broker, topic, "a")
    second = await moment_of(broker, topic, "b")
    await moment_of(broker, topic, "c")
    assert (await surveyed(broker, topic)).total == 3
    assert (await surveyed(broker, topic, since=second)).total == 2
    assert (await surveyed(broker, topic, until=second)).total == 1
    assert (await surveyed(broker, topic, first, second + timedelta(milliseconds=1))).total == 2
    assert (await surveyed(broker, topic, since=utc_now() + timedelta(days=1))).total == 0


async def test_what_comes_later_is_the_live_flows(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(8)])
    cursor = await surveyed(broker, topic)
    await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(8)])
    assert cursor.total == sum(cursor.ends.values()) == 8


async def test_a_topic_of_which_nothing_was_deleted_has_everything(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, "key")])
    coverage = (await surveyed(broker, topic, since=LONG_AGO)).coverage
    assert (coverage.is_complete, coverage.requested_from, coverage.available_from) == (True, rfc3339(LONG_AGO), None)


async def test_kafka_says_from_when_on_it_has_everything(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    await moment_of(kafka_broker, kafka_topic, "a")
    kept = await moment_of(kafka_broker, kafka_topic, "b")
    await _delete(kafka_broker, kafka_topic, kafka_bootstrap_servers, before=1)
    coverage = (await surveyed(kafka_broker, kafka_topic, since=LONG_AGO)).coverage
    assert (coverage.is_complete, coverage.available_from) == (False, rfc3339(kept))
    assert (await surveyed(kafka_broker, kafka_topic, since=kept)).coverage.is_complete
    assert not (await surveyed(kafka_broker, kafka_topic)).coverage.is_complete
    assert (await surveyed(kafka_broker, kafka_topic)).total == 1


async def test_of_an_empty_partition_only_what_is_older_than_the_retention_may_be_missing(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    await moment_of(kafka_broker, kafka_topic, "a")
    await _delete(kafka_broker, kafka_topic, kafka_bootstrap_servers, before=1)
    now = utc_now()
    coverage = (await surveyed(kafka_broker, kafka_topic, since=now - timedelta(days=31), now=now)).coverage
    assert (coverage.is_complete, coverage.available_from) == (False, rfc3339(now - timedelta(days=30)))
    assert (await surveyed(kafka_broker, kafka_topic, since=now - timedelta(days=29), now=now)).coverage.is_complete


async def test_plan_of_the_embedded_broker_names_deleted_records(tmp_path: Path) -> None:
    async with open_embedded_broker(tmp_path) as broker:
        await broker.create_topics([Topic("events", 1, DAY_MS)])
        await publish_in_order(broker, [message("events", "key") for _ in range(5)])
    with closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET timestamp_ms = timestamp_ms - ?", (2 * DAY_MS,))
    async with open_embedded_broker(tmp_path) as broker:
        kept = await moment_of(broker, "events", "new")
        cursor = await _once_deleted(lambda: surveyed(broker, "events", since=LONG_AGO))
    assert (cursor.coverage.is_complete, cursor.coverage.available_from) == (False, rfc3339(kept))
    assert (cursor.next, cursor.total) == ({"0": 5}, 1)


@pytest.mark.parametrize(("start", "gone", "next_offset"), [(3, 0, 5), (5, 0, 5), (8, 3, 8), (20, 5, 10)])
async def test_what_retention_takes_while_a_replay_runs_is_counted(
    broker: Broker, topic: str, start: int, gone: int, next_offset: int
) -> None:
    cursor = await surveyed(broker, topic)
    cursor.next["0"], cursor.ends["0"] = 5, 10
    cursor.skip_deleted(0, start)
    assert (cursor.coverage.deleted_meanwhile, cursor.next["0"]) == (gone, next_offset)
    assert cursor.coverage.is_complete is (gone == 0)


async def _delete(broker: KafkaBroker, topic: str, servers: str, before: int) -> None:
    async with broker.reader("test") as reader:
        (partition,) = (each for each, end in (await reader.end_offsets(topic)).items() if end)
    async with open_admin(servers, "test", 5_000) as admin:
        await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset=before)})


async def _once_deleted(ask: Callable[[], Awaitable[ReplayCheckpoint]]) -> ReplayCheckpoint:
    """Retention works by itself, a moment after the start."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (cursor := await ask()).total > 1:
            pass
    return cursor
