"""A message that is given up gives its room back at once, also if its partition never answers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from safevideo_common.broker.delivery import DeliveryTimeouts, InFlightLimit
from safevideo_common.broker.kafka.producer import KafkaProducer, KnownPartitions, ProducerSession
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.types import Message
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.virtual_time import in_virtual_time

ROOM = 8
DEADLINE = 2.0
ATTEMPTS = 50


class Builder:
    """A batch of any size."""

    def append(self, **_: object) -> object:
        return self


class OneStuckPartition:
    """What a producer asks of aiokafka. Partition 0 of two has a leader, and never acknowledges a batch."""

    client = SimpleNamespace(cluster=SimpleNamespace(leader_for_partition=lambda _: 1))

    async def partitions_for(self, _: str) -> set[int]:
        return {0, 1}

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, _builder: Builder, _topic: str, *, partition: int) -> "asyncio.Future[object]":
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if partition:
            answer.set_result(SimpleNamespace(offset=7))
        return answer


def message_to(partition: int) -> Message:
    key = next(name for name in (b"%d" % number for number in range(100)) if partition_of(name, 2) == partition)
    return Message("events", key, b"{}")


@in_virtual_time
async def test_messages_given_up_at_a_stuck_partition_leave_room_for_the_others() -> None:
    known: KnownPartitions = {}
    aiokafka: Any = OneStuckPartition()
    session = ProducerSession(aiokafka, known, 1.0)
    client: Any = SimpleNamespace(current=session)
    producer = KafkaProducer(client, InFlightLimit(ROOM), DeliveryTimeouts(DEADLINE), known)
    for _ in range(ATTEMPTS):
        failed = await asyncio.gather(*(producer.publish(message_to(0)) for _ in range(ROOM)), return_exceptions=True)
        assert [type(each) for each in failed] == [BrokerUnavailable] * ROOM
    waiting = [asyncio.create_task(producer.publish(message_to(0))) for _ in range(ROOM)]
    await asyncio.sleep(0)
    with pytest.raises(BrokerUnavailable, match="Too many"):
        await producer.publish(message_to(1))
    await asyncio.wait(waiting)
    assert await producer.publish(message_to(1)) == (("events", 1), 7)
    assert all(task.exception() for task in waiting)
