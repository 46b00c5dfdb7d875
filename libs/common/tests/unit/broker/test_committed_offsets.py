"""The cache of committed offsets: an answer that is late never moves a group backwards."""

import asyncio
from typing import Any

from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka.assignment import Assignment
from safevideo_common.broker.kafka.consumer import ConsumerSession
from safevideo_common.broker.types import TopicPartition

PARTITION = KafkaPartition("events", 0)


class LateConsumer:
    """What a session asks of aiokafka. The first request for the committed offset is answered last."""

    def __init__(self) -> None:
        self.first_may_answer = asyncio.Event()
        self.requests = 0
        self.commits: list[int] = []
        self.positions: list[int] = []

    def assignment(self) -> set[KafkaPartition]:
        return {PARTITION}

    async def committed(self, _: KafkaPartition) -> int:
        self.requests += 1
        if self.requests == 1:
            await self.first_may_answer.wait()
        return 100

    async def beginning_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        return dict.fromkeys(partitions, 2000)

    async def commit(self, offsets: dict[KafkaPartition, int]) -> None:
        self.commits += offsets.values()

    def seek(self, _: KafkaPartition, offset: int) -> None:
        self.positions.append(offset)


async def test_late_answer_about_a_committed_offset_moves_nothing_back() -> None:
    consumer = LateConsumer()
    aiokafka: Any = consumer
    session = ConsumerSession(aiokafka, Assignment())
    lag = asyncio.create_task(session.lag())
    while not consumer.requests:
        await asyncio.sleep(0)
    for offset in (600, 1100):
        await session.commit({TopicPartition(*PARTITION): offset})
    consumer.first_may_answer.set()
    await lag
    await session.seek_to_committed()
    await session.commit({TopicPartition(*PARTITION): 350})
    assert (consumer.positions, consumer.commits) == ([1100], [600, 1100])
