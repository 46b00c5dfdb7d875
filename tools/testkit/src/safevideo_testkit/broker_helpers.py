"""Steps that the tests of the log have in common."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from safevideo_common.broker.port import WHOLE, Broker, PartitionShard, Producer, Subscription
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS

DAY_MS: Final = 24 * 60 * 60 * 1000
PARTITIONS: Final = 4
"""Of the topics that the tests make."""


def message(topic: str, key: str, value: str | bytes = b"{}") -> Message:
    """A message with one header."""
    return Message(topic, key.encode(), value.encode() if isinstance(value, str) else value, (("ce_id", b"1"),))


async def publish_all(log: Broker, messages: Iterable[Message]) -> list[tuple[TopicPartition, int]]:
    """One after the other, so that their order is known."""
    async with log.publisher("test") as publisher:
        return [await publisher.publish(each) for each in messages]


async def publish_when_possible(publisher: Producer, wanted: Message) -> tuple[TopicPartition, int]:
    """Again and again until the log takes it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return await publisher.publish(wanted)
            except BrokerUnavailable:
                await asyncio.sleep(0.05)


async def fetch_exactly(subscription: Subscription, count: int, share: PartitionShard = WHOLE) -> list[Record]:
    """The next `count` records; fails when they do not come, or more come than asked for."""
    found: list[Record] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < count:
            found += await subscription.fetch(max_records=count - len(found), timeout=1.0, share=share)
    assert len(found) == count
    return found


def after(records: Sequence[Record]) -> dict[TopicPartition, int]:
    """What to commit once these are done."""
    return {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}


def values(records: Iterable[Record]) -> list[bytes]:
    """Sorted, since only records of one partition have an order."""
    return sorted(record.value for record in records)


def by_key(messages: Iterable[Message | Record]) -> dict[bytes, list[bytes]]:
    """The values of each key, in order."""
    found: dict[bytes, list[bytes]] = {}
    for each in messages:
        found.setdefault(each.key, []).append(each.value)
    return found


async def read_by_key(log: Broker, topic: str) -> dict[bytes, list[bytes]]:
    """All that a topic has: the values of each key, in order."""
    found: list[Record] = []
    async with log.reader("test") as reader:
        for partition, end in (await reader.end_offsets(topic)).items():
            offset = 0
            while offset < end and (records := await reader.read(partition, offset, 1000)):
                found += records
                offset = records[-1].offset + 1
    return by_key(found)
