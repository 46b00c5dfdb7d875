"""What `port.py` promises of readers, on both logs."""

import asyncio
import time

import pytest

from safevideo_common.broker.port import READ_BYTES, Broker
from safevideo_common.broker.types import MAX_VALUE_BYTES, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS, message, publish_all


async def test_a_moment_finds_the_first_record_at_or_after_it(log: Broker, topic: str) -> None:
    async with log.reader("test") as reader:
        ((partition, _),) = await publish_all(log, [message(topic, "one key", "early")])
        (early,) = await reader.read(partition, 0, 1)
        while time.time_ns() // 1_000_000 <= early.timestamp_ms:
            await asyncio.sleep(0)
        await publish_all(log, [message(topic, "one key", "late")])
        at_the_first = await reader.offsets_for_time(topic, early.timestamp_ms)
        after_the_first = await reader.offsets_for_time(topic, early.timestamp_ms + 1)
        after_all = await reader.offsets_for_time(topic, early.timestamp_ms + DAY_MS)
    assert (at_the_first[partition], after_the_first[partition], after_all[partition]) == (0, 1, 2)
    empty = {other: offset for other, offset in at_the_first.items() if other != partition}
    assert list(empty.values()) == [0] * (PARTITIONS - 1)


async def test_end_offsets_are_those_of_the_next_messages(log: Broker, topic: str) -> None:
    places = await publish_all(log, [message(topic, f"sg_{number}") for number in range(30)])
    async with log.reader("test") as reader:
        ends = await reader.end_offsets(topic)
    partitions = [place.partition for place, _ in places]
    assert ends == {TopicPartition(topic, n): partitions.count(n) for n in range(PARTITIONS)}


async def test_start_offsets_are_zero_while_nothing_is_deleted(log: Broker, topic: str) -> None:
    await publish_all(log, [message(topic, f"sg_{number}") for number in range(10)])
    async with log.reader("test") as reader:
        assert await reader.start_offsets(topic) == {TopicPartition(topic, n): 0 for n in range(PARTITIONS)}
        with pytest.raises(BrokerUnavailable):
            await reader.start_offsets(f"{topic}-missing")


async def test_a_range_is_read_from_anywhere_and_is_empty_at_the_end(log: Broker, topic: str) -> None:
    ((partition, _), *_) = await publish_all(log, [message(topic, "one key", str(number)) for number in range(10)])
    async with log.reader("test") as reader:
        assert [record.offset for record in await reader.read(partition, 3, 4)] == [3, 4, 5, 6]
        assert [record.offset for record in await reader.read(partition, 8, 100)] == [8, 9]
        assert [record.offset for record in await reader.read(partition, 0, 1)] == [0]
        assert list(await reader.read(partition, 10, 5)) == []


async def test_a_reader_at_the_end_reads_on_when_there_is_more(log: Broker, topic: str) -> None:
    ((partition, _), *_) = await publish_all(log, [message(topic, "one key", str(number)) for number in range(4)])
    async with log.reader("test") as reader:
        found = [record.offset for record in await reader.read(partition, 0, 3)]
        await publish_all(log, [message(topic, "one key", str(number)) for number in range(4)])
        while records := await reader.read(partition, len(found), 3):
            found += [record.offset for record in records]
    assert found == list(range(8))


async def test_of_large_records_only_some_are_given_at_once_and_none_is_left_out(log: Broker, topic: str) -> None:
    sizes = [MAX_VALUE_BYTES, 10, *[MAX_VALUE_BYTES] * 10, 10]
    ((partition, _), *_) = await publish_all(log, [message(topic, "one key", b"x" * size) for size in sizes])
    found: list[int] = []
    rounds = 0
    async with log.reader("test") as reader:
        while records := await reader.read(partition, len(found), 100):
            assert sum(len(record.value) for record in records) < READ_BYTES + 3 * MAX_VALUE_BYTES
            found += [len(record.value) for record in records]
            rounds += 1
    assert found == sizes
    assert rounds > 1
