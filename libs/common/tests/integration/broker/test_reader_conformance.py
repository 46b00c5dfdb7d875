"""The guarantees of `port.py` for readers, on both adapters."""

import asyncio
import time

import pytest

from safevideo_common.broker.port import READ_BYTES, Broker
from safevideo_common.broker.types import MAX_VALUE_BYTES, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS, message, messages_of_one_key, publish_in_order


async def test_offsets_for_time_are_those_of_the_first_records_at_or_after_it(broker: Broker, topic: str) -> None:
    async with broker.reader("test") as reader:
        ((partition, _),) = await publish_in_order(broker, [message(topic, "one key", "early")])
        (early,) = await reader.read(partition, 0, 1)
        while time.time_ns() // 1_000_000 <= early.timestamp_ms:
            await asyncio.sleep(0)
        await publish_in_order(broker, [message(topic, "one key", "late")])
        at_the_first = await reader.offsets_for_time(topic, early.timestamp_ms)
        after_the_first = await reader.offsets_for_time(topic, early.timestamp_ms + 1)
        after_all = await reader.offsets_for_time(topic, early.timestamp_ms + DAY_MS)
    assert (at_the_first[partition], after_the_first[partition], after_all[partition]) == (0, 1, 2)
    empty = {other: offset for other, offset in at_the_first.items() if other != partition}
    assert list(empty.values()) == [0] * (PARTITIONS - 1)


async def test_end_offsets_are_those_of_the_next_messages(broker: Broker, topic: str) -> None:
    positions = await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(30)])
    async with broker.reader("test") as reader:
        ends = await reader.end_offsets(topic)
    partitions = [partition.partition for partition, _ in positions]
    assert ends == {TopicPartition(topic, n): partitions.count(n) for n in range(PARTITIONS)}


async def test_start_offsets_are_zero_before_any_deletion(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number}") for number in range(10)])
    async with broker.reader("test") as reader:
        assert await reader.start_offsets(topic) == {TopicPartition(topic, n): 0 for n in range(PARTITIONS)}
        with pytest.raises(BrokerUnavailable):
            await reader.start_offsets(f"{topic}-missing")


async def test_read_starts_at_any_offset_and_returns_nothing_at_the_end(broker: Broker, topic: str) -> None:
    ((partition, _), *_) = await publish_in_order(broker, messages_of_one_key(topic, 10))
    async with broker.reader("test") as reader:
        assert [record.offset for record in await reader.read(partition, 3, 4)] == [3, 4, 5, 6]
        assert [record.offset for record in await reader.read(partition, 8, 100)] == [8, 9]
        assert [record.offset for record in await reader.read(partition, 0, 1)] == [0]
        assert list(await reader.read(partition, 10, 5)) == []


async def test_read_at_the_end_continues_with_new_records(broker: Broker, topic: str) -> None:
    ((partition, _), *_) = await publish_in_order(broker, messages_of_one_key(topic, 4))
    async with broker.reader("test") as reader:
        found = [record.offset for record in await reader.read(partition, 0, 3)]
        await publish_in_order(broker, messages_of_one_key(topic, 4))
        while records := await reader.read(partition, len(found), 3):
            found += [record.offset for record in records]
    assert found == list(range(8))


async def test_read_returns_large_records_in_parts_without_gaps(broker: Broker, topic: str) -> None:
    sizes = [MAX_VALUE_BYTES, 10, *[MAX_VALUE_BYTES] * 10, 10]
    ((partition, _), *_) = await publish_in_order(broker, [message(topic, "one key", b"x" * size) for size in sizes])
    found: list[int] = []
    reads = 0
    async with broker.reader("test") as reader:
        while records := await reader.read(partition, len(found), 100):
            assert sum(len(record.value) for record in records) < READ_BYTES + 3 * MAX_VALUE_BYTES
            found += [len(record.value) for record in records]
            reads += 1
    assert found == sizes
    assert reads > 1
