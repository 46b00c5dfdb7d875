"""Guarantees of the embedded broker alone: it survives its process, and one process at a time opens it."""

import asyncio
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from safevideo_common.broker.embedded import open_embedded_broker
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.types import Topic, TopicPartition, next_offsets
from safevideo_common.errors import BrokerUnavailable, StartupError
from safevideo_testkit.broker_helpers import (
    DAY_MS,
    fetch_exactly,
    message,
    publish_in_order,
    values,
)
from safevideo_testkit.eventually import DEADLINE_SECONDS

PUBLISH_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from safevideo_common.broker.embedded import open_embedded_broker
from safevideo_common.broker.types import Message, Topic

async def publish(producer, worker):
    for number in range(1_000_000):
        value = b"%d-%d" % (worker, number)
        partition, offset = await producer.publish(Message("events", b"sg_%d" % worker, value))
        print(partition.partition, offset, value.decode(), flush=True)

async def main():
    async with open_embedded_broker(Path(sys.argv[1])) as broker:
        await broker.create_topics([Topic("events", 4, 86_400_000)])
        async with broker.producer("child", acknowledged_within=60.0) as producer:
            await asyncio.gather(*(publish(producer, worker) for worker in range(20)))

asyncio.run(main())
"""


async def test_killed_process_loses_no_acknowledged_message(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for life in range(1, 4):
        acknowledged += await _publish_until_killed(tmp_path, acknowledgements=300 * life)
    async with open_embedded_broker(tmp_path) as broker, broker.reader("test") as reader:
        found: dict[str, str] = {}
        for partition, end in (await reader.end_offsets("events")).items():
            records = await reader.read(partition, 0, end)
            assert [record.offset for record in records] == list(range(end))
            found |= {f"{record.partition} {record.offset}": record.value.decode() for record in records}
    assert len(acknowledged) >= 1800
    for line in acknowledged:
        position, value = line.rsplit(" ", 1)
        assert found[position] == value


async def _publish_until_killed(folder: Path, acknowledgements: int) -> list[str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUBLISH_FOR_EVER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    async with asyncio.timeout(DEADLINE_SECONDS):
        lines = [(await child.stdout.readline()).decode().strip() for _ in range(acknowledgements)]
        child.kill()
        *rest, _torn = (await child.stdout.read()).decode().split("\n")
        await child.wait()
    return [line for line in [*lines, *rest] if line]


async def test_second_process_learns_which_process_has_the_broker_open(tmp_path: Path) -> None:
    async with open_embedded_broker(tmp_path):
        with pytest.raises(StartupError, match=f"process {os.getpid()}"):
            async with open_embedded_broker(tmp_path):
                pass


async def test_reopened_broker_continues_its_offsets_and_groups(tmp_path: Path) -> None:
    for life in range(3):
        async with open_embedded_broker(tmp_path) as broker:
            await broker.create_topics([Topic("events", 1, DAY_MS)])
            positions = await publish_in_order(broker, [message("events", "key", str(life))])
            assert positions == [(TopicPartition("events", 0), life)]
            async with broker.subscribe("group", ["events"], "test") as subscription:
                records = await fetch_exactly(subscription, 1)
                await subscription.commit(next_offsets(records))
    assert values(records) == [b"2"]


async def test_retention_deletes_old_records_and_offsets_continue(tmp_path: Path) -> None:
    partition = TopicPartition("events", 0)
    async with open_embedded_broker(tmp_path) as broker:
        await broker.create_topics([Topic("events", 1, DAY_MS), Topic("longer", 1, 9 * DAY_MS)])
        await publish_in_order(broker, [message("events", "key", "old") for _ in range(5)])
        await publish_in_order(broker, [message("longer", "key", "old")])
    _age(tmp_path, days=2)
    async with open_embedded_broker(tmp_path) as broker, broker.reader("test") as reader:
        await publish_in_order(broker, [message("events", "key", "new")])
        async with broker.subscribe("group", ["events", "longer"], "test") as subscription, asyncio.timeout(30):
            while (await subscription.lag())[partition] > 1:
                await asyncio.sleep(0.01)
            assert values(await fetch_exactly(subscription, 2)) == [b"new", b"old"]
        assert [record.offset for record in await reader.read(partition, 0, 10)] == [5]
        assert await reader.end_offsets("events") == {partition: 6}
        assert await reader.start_offsets("events") == {partition: 5}
        assert (await reader.offsets_for_time("events", 0))[partition] == 5


def _age(folder: Path, days: int) -> None:
    with closing(sqlite3.connect(folder / "events.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET timestamp_ms = timestamp_ms - ?", (days * DAY_MS,))


async def test_timestamps_never_decrease_when_the_clock_steps_back(tmp_path: Path) -> None:
    async with open_embedded_broker(tmp_path) as broker:
        await broker.create_topics([Topic("events", 1, DAY_MS)])
        await publish_in_order(broker, [message("events", "key")])
    _age(tmp_path, days=-1)  # as if the clock had been a day ahead
    async with open_embedded_broker(tmp_path) as broker, broker.reader("test") as reader:
        await publish_in_order(broker, [message("events", "key")])
        first, second = await reader.read(TopicPartition("events", 0), 0, 2)
    assert second.timestamp_ms >= first.timestamp_ms > time.time_ns() // 1_000_000


async def test_closed_broker_raises_instead_of_hanging(tmp_path: Path) -> None:
    async with open_embedded_broker(tmp_path) as broker:
        await broker.create_topics([Topic("events", 1, DAY_MS)])
        publishing, reading = broker.producer("test"), broker.reader("test")
        producer, reader = await publishing.__aenter__(), await reading.__aenter__()
    with pytest.raises(BrokerUnavailable):
        await producer.publish(message("events", "key"))
    with pytest.raises(BrokerUnavailable):
        await reader.read(TopicPartition("events", 0), 0, 1)
    with pytest.raises(BrokerUnavailable):
        await broker.probe()
    await publishing.__aexit__(None, None, None)
    await reading.__aexit__(None, None, None)


async def test_open_broker_raises_without_a_server_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="KAFKA_BOOTSTRAP_SERVERS"):
        async with open_broker("", None):
            pass
