"""Messages in flight: all are recalled in one step, and a cancellation by others stays a cancellation."""

import asyncio
from collections.abc import Callable

import pytest

from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_testkit.virtual_time import in_virtual_time
from webhook_ingest.publishing.spooling_publisher import EARLIER_SECONDS, InFlightPublishes, PublishRecalled

HERE = (TopicPartition("topic", 0), 7)


def partition_of(key: bytes) -> TopicPartition:
    """Return a partition for each first letter, so that `a` and `a2` are in one."""
    return TopicPartition("topic", key[0])


class PendingProducer:
    """A producer whose messages wait for the test."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[tuple[TopicPartition, int]]] = {}

    def partition_of(self, message: Message) -> TopicPartition:
        return partition_of(message.key)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        self.waiting[message.key] = asyncio.get_running_loop().create_future()
        return await self.waiting[message.key]


class Harness:
    """Publishes that are recalled as soon as one fails: all of them, or those of its partition."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.producer = PendingProducer()
        self.publishes = InFlightPublishes(self.producer, self._fail, seconds + EARLIER_SECONDS)
        self.recalled: list[bytes] = []
        self.only_partition = False

    def _fail(self, partition: TopicPartition) -> None:
        recalled = self.publishes.recall(partition if self.only_partition else None)
        self.recalled += [message.key for _, message in recalled]

    async def publish(self, *keys: bytes) -> "list[asyncio.Task[tuple[TopicPartition, int]]]":
        tasks = [
            asyncio.create_task(self.publishes.publish(Message("topic", key, b""), partition_of(key))) for key in keys
        ]
        while len(self.producer.waiting) < len(keys):
            await asyncio.sleep(0)
        return tasks


async def outcomes(tasks: "list[asyncio.Task[tuple[TopicPartition, int]]]") -> list[object]:
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in done]


async def test_publish_returns_acknowledgement() -> None:
    harness = Harness()
    (task,) = await harness.publish(b"a")
    harness.producer.waiting[b"a"].set_result(HERE)
    assert await task == HERE
    assert harness.publishes.recall() == []
    harness.publishes.close()


async def test_failure_recalls_all_messages_at_once_in_order() -> None:
    harness = Harness()
    tasks = await harness.publish(b"a", b"b", b"c")
    harness.producer.waiting[b"b"].set_exception(BrokerUnavailable("no"))
    await asyncio.wait([tasks[1]])
    assert harness.recalled == [b"a", b"b", b"c"]
    assert all(
        future.done() for future in harness.producer.waiting.values()
    )  # so the producer sends none of them any more
    assert await outcomes(tasks) == [PublishRecalled] * 3
    assert [task.cancelling() for task in tasks] == [0] * 3
    harness.publishes.close()


async def test_failure_can_recall_one_partition_alone() -> None:
    harness = Harness()
    harness.only_partition = True
    tasks = await harness.publish(b"a", b"b", b"a2")
    harness.producer.waiting[b"a"].set_exception(BrokerUnavailable("no"))
    await asyncio.wait([tasks[0]])
    assert harness.recalled == [b"a", b"a2"]
    harness.producer.waiting[b"b"].set_result(HERE)
    assert await outcomes(tasks) == [PublishRecalled, HERE, PublishRecalled]
    harness.publishes.close()


async def test_timeouts_of_several_partitions_recall_each_once() -> None:
    harness = Harness(seconds=0.05)
    harness.only_partition = True
    assert await outcomes(await harness.publish(b"a", b"b", b"a2")) == [PublishRecalled] * 3
    assert harness.recalled == [b"a", b"a2", b"b"]


async def test_simultaneous_failures_recall_each_message_once() -> None:
    harness = Harness()
    tasks = await harness.publish(b"a", b"b", b"c")
    for future in harness.producer.waiting.values():
        future.set_exception(BrokerUnavailable("no"))
    assert await outcomes(tasks) == [PublishRecalled] * 3
    assert harness.recalled == [b"a", b"b", b"c"]
    harness.publishes.close()


async def test_timeout_of_oldest_message_recalls_all() -> None:
    harness = Harness(seconds=0.05)
    assert await outcomes(await harness.publish(b"a", b"b")) == [PublishRecalled] * 2
    assert harness.recalled == [b"a", b"b"]


@in_virtual_time
async def test_timeout_counts_from_start_of_each_message() -> None:
    harness = Harness(seconds=0.2)
    first = await harness.publish(b"a")
    await asyncio.sleep(0.1)  # the test is about time
    harness.producer.waiting.pop(b"a").set_result(HERE)
    began = asyncio.get_running_loop().time()
    assert await outcomes([*first, *await harness.publish(b"b")]) == [HERE, PublishRecalled]
    assert asyncio.get_running_loop().time() - began >= 0.19


async def test_cancellation_by_others_wins_over_recall() -> None:
    harness = Harness()
    tasks = await harness.publish(b"a", b"b")
    tasks[0].cancel()
    harness.publishes.recall()
    assert await outcomes(tasks) == [asyncio.CancelledError, PublishRecalled]
    harness.publishes.close()


async def test_publish_can_be_cancelled_by_a_timeout() -> None:
    harness = Harness()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await harness.publishes.publish(Message("topic", b"a", b""), HERE[0])
    assert harness.publishes.recall() == []
    harness.publishes.close()


@pytest.mark.parametrize("error", [PayloadTooLarge, ValueError])
async def test_other_errors_recall_no_message(error: Callable[[str], Exception]) -> None:
    harness = Harness()
    tasks = await harness.publish(b"a", b"b")
    harness.producer.waiting[b"a"].set_exception(error("no"))
    await asyncio.wait([tasks[0]])
    assert harness.recalled == []
    harness.producer.waiting[b"b"].set_result(HERE)
    assert await outcomes(tasks) == [error, HERE]
    harness.publishes.close()
