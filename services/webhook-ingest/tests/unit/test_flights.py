"""Messages in the air: all are called back in one step, and a cancellation from elsewhere stays one."""

import asyncio
from collections.abc import Callable

import pytest

from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_testkit.virtual_time import in_virtual_time
from webhook_ingest.publishing.in_flight import InFlightPublishes, PublishRecalled

HERE = (TopicPartition("topic", 0), 7)


class Pending:
    """A publisher whose every message waits for the test's word."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[tuple[TopicPartition, int]]] = {}

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        self.waiting[message.key] = asyncio.get_running_loop().create_future()
        return await self.waiting[message.key]


class Bench:
    """Flights that are called back as soon as one fails."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.publisher = Pending()
        self.flights = InFlightPublishes(self.publisher, self._fail, seconds)
        self.called_back: list[bytes] = []

    def _fail(self) -> None:
        self.called_back += [message.key for _, message in self.flights.call_back()]

    async def aloft(self, *keys: bytes) -> "list[asyncio.Task[tuple[TopicPartition, int]]]":
        tasks = [asyncio.create_task(self.flights.send(Message("topic", key, b""))) for key in keys]
        while len(self.publisher.waiting) < len(keys):
            await asyncio.sleep(0)
        return tasks


async def outcomes(tasks: "list[asyncio.Task[tuple[TopicPartition, int]]]") -> list[object]:
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in done]


async def test_an_acknowledgement_is_passed_on() -> None:
    bench = Bench()
    (task,) = await bench.aloft(b"a")
    bench.publisher.waiting[b"a"].set_result(HERE)
    assert await task == HERE
    assert bench.flights.call_back() == []
    bench.flights.close()


async def test_when_one_fails_all_are_called_back_at_once_and_in_order() -> None:
    bench = Bench()
    tasks = await bench.aloft(b"a", b"b", b"c")
    bench.publisher.waiting[b"b"].set_exception(BrokerUnavailable("no"))
    await asyncio.wait([tasks[1]])
    assert bench.called_back == [b"a", b"b", b"c"]
    assert all(future.done() for future in bench.publisher.waiting.values())  # so none is sent any more
    assert await outcomes(tasks) == [PublishRecalled] * 3
    assert [task.cancelling() for task in tasks] == [0] * 3
    bench.flights.close()


async def test_when_all_fail_at_once_each_is_called_back_once() -> None:
    bench = Bench()
    tasks = await bench.aloft(b"a", b"b", b"c")
    for future in bench.publisher.waiting.values():
        future.set_exception(BrokerUnavailable("no"))
    assert await outcomes(tasks) == [PublishRecalled] * 3
    assert bench.called_back == [b"a", b"b", b"c"]
    bench.flights.close()


@in_virtual_time
async def test_the_deadline_of_the_oldest_is_that_of_all() -> None:
    bench = Bench(seconds=0.05)
    assert await outcomes(await bench.aloft(b"a", b"b")) == [PublishRecalled] * 2
    assert bench.called_back == [b"a", b"b"]


@in_virtual_time
async def test_the_deadline_counts_from_each_ones_own_start() -> None:
    bench = Bench(seconds=2.0)
    first = await bench.aloft(b"a")
    await asyncio.sleep(1.0)
    bench.publisher.waiting.pop(b"a").set_result(HERE)
    began = asyncio.get_running_loop().time()
    assert await outcomes([*first, *await bench.aloft(b"b")]) == [HERE, PublishRecalled]
    assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)


async def test_a_cancellation_from_elsewhere_stays_one_also_when_it_meets_ours() -> None:
    bench = Bench()
    tasks = await bench.aloft(b"a", b"b")
    tasks[0].cancel()
    bench.flights.call_back()
    assert await outcomes(tasks) == [asyncio.CancelledError, PublishRecalled]
    bench.flights.close()


@in_virtual_time
async def test_a_timeout_around_it_works_as_ever() -> None:
    bench = Bench()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bench.flights.send(Message("topic", b"a", b""))
    assert bench.flights.call_back() == []
    bench.flights.close()


@pytest.mark.parametrize("refusal", [PayloadTooLarge, ValueError])
async def test_what_fails_for_reasons_of_its_own_calls_nobody_back(refusal: Callable[[str], Exception]) -> None:
    bench = Bench()
    tasks = await bench.aloft(b"a", b"b")
    bench.publisher.waiting[b"a"].set_exception(refusal("no"))
    await asyncio.wait([tasks[0]])
    assert bench.called_back == []
    bench.publisher.waiting[b"b"].set_result(HERE)
    assert await outcomes(tasks) == [refusal, HERE]
    bench.flights.close()
