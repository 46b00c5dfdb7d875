"""Into the log at a steady pace, and again until each message is acknowledged."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from safevideo_common.broker.port import Broker, Producer, Reader
from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.topics import KYC, OTHER, PERFORMER

TOPICS = (PERFORMER, KYC, OTHER)
AT_ONCE = 50
PAGE = 2000
GIVE_UP_SECONDS = 180.0


async def publish_all(publisher: Producer, messages: Sequence[Message], seconds: float) -> None:
    """Spread over so many seconds, but for what an outage holds up. What may have arrived is published again."""
    began = time.monotonic()
    for start in range(0, len(messages), AT_ONCE):
        await asyncio.sleep(max(0.0, began + seconds * start / len(messages) - time.monotonic()))
        async with asyncio.timeout(GIVE_UP_SECONDS), asyncio.TaskGroup() as under_way:
            for message in messages[start : start + AT_ONCE]:
                under_way.create_task(_publish(publisher, message))


async def _publish(publisher: Producer, message: Message) -> None:
    while True:
        try:
            await publisher.publish(message)
        except BrokerUnavailable:
            await asyncio.sleep(0.1)
        else:
            return


async def ends_of(broker: Broker, topics: Sequence[str] = TOPICS) -> Mapping[TopicPartition, int]:
    """Where they end now."""
    async with broker.reader("chaos") as reader:
        return await _ends(reader, topics)


async def records_since(broker: Broker, begins: Mapping[TopicPartition, int]) -> Sequence[Record]:
    """All records from `begins` on, in order within each partition."""
    found: list[Record] = []
    async with broker.reader("chaos") as reader:
        ends = await _ends(reader, sorted({place.topic for place in begins}))
        for place, begin in begins.items():
            at = begin
            while at < ends[place]:
                found += await reader.read(place, at, PAGE)
                at = found[-1].offset + 1
    return found


async def _ends(reader: Reader, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
    ends = [await reader.end_offsets(topic) for topic in topics]
    return {place: end for each in ends for place, end in each.items()}
