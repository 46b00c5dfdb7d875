"""Places among the calls in flight: bounded, in order, and never all of them for jobs."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.sharegram import operations
from safevideo_common.sharegram.concurrency import ConcurrencyLimit
from safevideo_common.sharegram.errors import RULES, CallQueueFull
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import OutgoingCall, SharegramCaller
from safevideo_testkit.virtual_time import in_virtual_time


class Slow:
    """A layer that needs a second, and notes who is in it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running = self.most = 0

    async def send(self, call: OutgoingCall) -> object:
        self.begun.append(call.caller.request_id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(1)
        finally:
            self.running -= 1
        return call.caller.request_id


def limited(below: Slow, places: int) -> Callable[[SharegramCaller], Coroutine[object, object, object]]:
    limit = ConcurrencyLimit(below, places, SharegramMetrics(CollectorRegistry()))
    return lambda caller: limit.send(OutgoingCall(operations.HEALTH, caller, "/health"))


@in_virtual_time
async def test_calls_beyond_the_limit_wait_in_order() -> None:
    below = Slow()
    send = limited(below, 4)
    await asyncio.gather(*(send(SharegramCaller.api(f"{number}")) for number in range(9)))
    assert (below.most, below.begun) == (4, [f"{number}" for number in range(9)])


@in_virtual_time
async def test_jobs_leave_places_free_and_the_api_goes_first() -> None:
    below = Slow()
    send = limited(below, 4)
    jobs = [asyncio.create_task(send(SharegramCaller.job("job"))) for _ in range(12)]
    await asyncio.sleep(0.1)
    assert below.running == 3
    started = asyncio.get_running_loop().time()
    people = [asyncio.create_task(send(SharegramCaller.api("person"))) for _ in range(3)]
    await asyncio.gather(*people)
    assert asyncio.get_running_loop().time() - started < 2, "they waited for jobs that were running, not for the queue"
    await asyncio.gather(*jobs)
    assert below.most == 4


@in_virtual_time
async def test_full_queue_and_a_wait_past_the_deadline_are_an_error_of_their_own() -> None:
    below = Slow()
    send = limited(below, 1)
    waiting = [asyncio.create_task(send(SharegramCaller.api())) for _ in range(9)]
    await asyncio.sleep(0)
    with pytest.raises(CallQueueFull, match="8 calls to Sharegram wait") as raised:
        await send(SharegramCaller.api())
    assert RULES[raised.value.reason].breaker == "none"
    with pytest.raises(CallQueueFull, match=r"no place .* in time"):
        await send(SharegramCaller.job(seconds=0.5))
    assert len(await asyncio.gather(*waiting)) == 9


@in_virtual_time
async def test_cancelled_waiter_and_cancelled_call_give_their_places_back() -> None:
    below = Slow()
    send = limited(below, 1)
    first, second, third = (asyncio.create_task(send(SharegramCaller.api(name))) for name in "123")
    await asyncio.sleep(0.1)
    second.cancel()
    first.cancel()
    assert await third == "3"
    assert await send(SharegramCaller.api("4")) == "4"
    assert below.most == 1
