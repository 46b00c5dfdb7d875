"""Steps that the tests of the broker share."""

import asyncio
from collections.abc import Iterable
from typing import Final

from safevideo_common.broker.port import ALL_PARTITIONS, Broker, PartitionShard, Producer, Subscription
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS

DAY_MS: Final = 24 * 60 * 60 * 1000
PARTITIONS: Final = 4
"""The number of partitions of a test topic."""


def message(topic: str, key: str, value: str | bytes = b"{}") -> Message:
    """Return a message with one header."""
    return Message(topic, key.encode(), value.encode() if isinstance(value, str) else value, (("ce_id", b"1"),))


def messages_of_one_key(topic: str, count: int) -> list[Message]:
    """Return messages with the values 0, 1, 2, …"""
    return [message(topic, "one key", str(number)) for number in range(count)]


async def publish_in_order(broker: Broker, messages: Iterable[Message]) -> list[tuple[TopicPartition, int]]:
    """Publish one message after the other; return their partitions and offsets."""
    async with broker.producer("test") as producer:
        return [await producer.publish(each) for each in messages]


async def publish_when_available(producer: Producer, message: Message) -> tuple[TopicPartition, int]:
    """Publish the message; try again while the broker is unavailable."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return await producer.publish(message)
            except BrokerUnavailable:
                await asyncio.sleep(0.05)


async def fetch_exactly(subscription: Subscription, count: int, shard: PartitionShard = ALL_PARTITIONS) -> list[Record]:
    """Return the next `count` records. Fails if there are fewer, or if a fetch returns more than requested."""
    found: list[Record] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < count:
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
    found: list[Record] = []
    async with broker.reader("test") as reader:
        for partition, end in (await reader.end_offsets(topic)).items():
            offset = 0
            while offset < end and (records := await reader.read(partition, offset, 1000)):
                found += records
                offset = records[-1].offset + 1
    return by_key(found)
