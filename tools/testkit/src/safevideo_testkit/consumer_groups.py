"""Where the groups of a broker begin that many tests share."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import TopicPartition
from safevideo_testkit.eventually import DEADLINE_SECONDS

MEMBERS_GONE_SECONDS: Final = DEADLINE_SECONDS
"""A member that was killed is one until its session ends."""


async def seek_groups_to_end(bootstrap_servers: str, broker: Broker, groups: Mapping[str, Sequence[str]]) -> None:
    """Let each group begin at the end of its topics: what earlier tests have left there is not this one's.

    Waits for the last members of the groups to be gone. Raises `TimeoutError` when they stay.
    """
    for group, topics in groups.items():
        await _begin_at(bootstrap_servers, group, await _ends(broker, topics))


async def _ends(broker: Broker, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
    async with broker.reader("groups") as reader:
        ends = [await reader.end_offsets(topic) for topic in topics]
    return {place: end for each in ends for place, end in each.items()}


async def _begin_at(bootstrap_servers: str, group: str, offsets: Mapping[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    places = {KafkaPartition(*place): offset for place, offset in offsets.items()}
    await consumer.start()
    try:
        consumer.assign(list(places))
        async with asyncio.timeout(MEMBERS_GONE_SECONDS):
            while not await _committed(consumer, places):
                await asyncio.sleep(0.25)
    finally:
        await consumer.stop()


async def _committed(consumer: AIOKafkaConsumer, places: Mapping[KafkaPartition, int]) -> bool:
    try:
        await consumer.commit(places)
    except CommitFailedError:
        return False
    return True
