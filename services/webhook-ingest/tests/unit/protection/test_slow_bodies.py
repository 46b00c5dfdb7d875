"""The bound on bodies that arrive slowly."""

import asyncio

import pytest

from safevideo_common.errors import Overloaded, RequestTimedOut
from webhook_ingest.protection.limits import SlowBodyLimiter

SECONDS = 20.0


async def test_slow_body_limiter_bounds_total_time_of_a_trickling_body() -> None:
    async def trickle(bodies: SlowBodyLimiter) -> None:
        async with bodies.reading(10):
            while True:
                await asyncio.sleep(0.01)

    with pytest.raises(RequestTimedOut):
        await trickle(SlowBodyLimiter(max_bodies=5, total_bytes=100, seconds=0.1))


async def test_slow_body_limiter_evicts_oldest_body_at_the_limit() -> None:
    bodies = SlowBodyLimiter(max_bodies=2, total_bytes=1000, seconds=SECONDS)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        first, second = (group.create_task(_overloaded(bodies, 1)) for _ in range(2))
        await asyncio.sleep(0)
        async with bodies.reading(1):
            assert await first
            assert not second.done()
        third = group.create_task(_overloaded(bodies, 1))
        await asyncio.sleep(0)
        assert not second.done()
        second.cancel()
        third.cancel()


async def test_slow_body_limiter_evicts_as_many_bodies_as_a_large_one_needs() -> None:
    bodies = SlowBodyLimiter(max_bodies=100, total_bytes=10, seconds=SECONDS)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        small = [group.create_task(_overloaded(bodies, 3)) for _ in range(3)]
        await asyncio.sleep(0)
        async with bodies.reading(7):
            assert await asyncio.gather(*small[:2]) == [True, True]
            assert not small[2].done()
        small[2].cancel()


async def test_slow_body_limiter_accepts_body_larger_than_the_limit_alone() -> None:
    async with SlowBodyLimiter(max_bodies=5, total_bytes=10, seconds=SECONDS).reading(11):
        pass


async def _overloaded(bodies: SlowBodyLimiter, size: int) -> bool:
    try:
        async with bodies.reading(size):
            await asyncio.Event().wait()
    except Overloaded:
        return True
    return False
