"""Steps that the tests of the broker share."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from safevideo_common.broker.port import ALL_PARTITIONS, Broker, PartitionShard, Producer, Subscription
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS

DAY_MS: Final = 24 * 60 * 60 * 1000
PARTITIONS: Final = 4
"""The number of partitions of a test topic."""
CONCURRENT_MESSAGES: Final = 500
PACED_MESSAGES: Final = 50
PAGE_RECORDS: Final = 2000


def message(topic: str, key: str, value: str | bytes = b"{}") -> Message:
    """Return a message with one header."""
    return Message(topic, key.encode(), value.encode() if isinstance(value, str) else value, (("ce_id", b"1"),))


def messages_of_one_key(topic: str, count: int) -> list[Message]:
    """Return messages whose values count from 0."""
    return [message(topic, "one key", str(number)) for number in range(count)]


async def publish_in_order(broker: Broker, messages: Iterable[Message]) -> list[tuple[TopicPartition, int]]:
    """Publish one message after the other; return their partitions and offsets."""
    async with broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as producer:
        return [await publish_when_available(producer, each) for each in messages]


async def publish_when_available(producer: Producer, message: Message) -> tuple[TopicPartition, int]:
    """Publish the message; try again while the broker is unavailable."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return await producer.publish(message)
            except BrokerUnavailable:
                await asyncio.sleep(0.05)


async def answers_a_probe(broker: Broker) -> bool:
    """Return whether the broker answers in the time of a probe, which a busy machine may exceed."""
    try:
        await broker.probe()
    except BrokerUnavailable:
        return False
    return True


async def fetch_exactly(subscription: Subscription, count: int, shard: PartitionShard = ALL_PARTITIONS) -> list[Record]:
    """Return the next `count` records. Fails if there are fewer, or if a fetch returns more than requested."""
    found: list[Record] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < count:
            with suppress(BrokerUnavailable):  # a busy machine connects late
                found += await subscription.fetch(max_records=count - len(found), timeout=1.0, shard=shard)
    assert len(found) == count
    return found


def values(records: Iterable[Record]) -> list[bytes]:
    """Return the values, sorted: only the records of one partition have an order."""
    return sorted(record.value for record in records)


def by_key(messages: Iterable[Message | Record]) -> dict[bytes, list[bytes]]:
    """Return the values of each key, in order."""
    found: dict[bytes, list[bytes]] = {}
    for each in messages:
        found.setdefault(each.key, []).append(each.value)
    return found


async def read_by_key(broker: Broker, topic: str) -> dict[bytes, list[bytes]]:
    """Return the values of each key of a topic, in order."""
    return by_key(await records_since(broker, dict.fromkeys(await end_offsets(broker, [topic]), 0)))


async def end_offsets(broker: Broker, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the offset of the next record of each partition."""
    async with broker.reader("test") as reader:
        return {partition: end for topic in topics for partition, end in (await reader.end_offsets(topic)).items()}


async def records_since(broker: Broker, begins: Mapping[TopicPartition, int]) -> list[Record]:
    """Return the records from these offsets on, in order within each partition.

    Raises `AssertionError` if the broker returns fewer than its end offset says.
    """
    found: list[Record] = []
    ends = await end_offsets(broker, sorted({partition.topic for partition in begins}))
    async with broker.reader("test") as reader:
        for partition, begin in begins.items():
            offset = begin
            while offset < ends[partition]:
                records = await reader.read(partition, offset, PAGE_RECORDS)
                assert records, f"{partition} ends at {ends[partition]} and has no record from {offset} on"
                found += records
                offset = records[-1].offset + 1
    return found


async def publish_spread(producer: Producer, messages: Sequence[Message], seconds: float) -> None:
    """Publish the messages at a constant rate, except in an outage, and again if an acknowledgement was lost.

    Those of a partition that takes no writes wait for it, while others are published.
    """
    began, room = time.monotonic(), asyncio.Semaphore(CONCURRENT_MESSAGES)

    async def publish(each: Message) -> None:
        try:
            await publish_when_available(producer, each)
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        for number, each in enumerate(messages):
            if number % PACED_MESSAGES == 0:
                await asyncio.sleep(max(0.0, began + seconds * number / len(messages) - time.monotonic()))
            await room.acquire()
            tasks.create_task(publish(each))
