"""Commands that fail fast: one wait an outage, and one command that finds its end."""

import asyncio

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis, RedisUnavailable
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import ticking


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_hanging_redis_costs_one_wait_and_one_command(redis_url: str, redis_server: RunningServer) -> None:
    async with open_redis(redis_url, 3) as redis:
        fail_fast = FailFastRedis(redis, pause_seconds=60)
        sent = 0

        async def ping() -> object:
            nonlocal sent
            sent += 1
            return await redis.ping()

        with redis_server.paused():
            async with ticking() as ticks:
                for _ in range(100):
                    with pytest.raises(RedisUnavailable):
                        await fail_fast.call(ping)
        assert sent == 1
        assert ticks.seconds < 2  # a hundred waits would be five seconds


async def test_one_command_tries_after_the_pause_and_the_others_fail_at_once(redis: Redis) -> None:
    clock = Seconds()
    fail_fast = FailFastRedis(redis, seconds=60, clock=clock)
    with pytest.raises(RedisUnavailable):
        await fail_fast.call(raising)
    clock.now += 1
    sent: list[int] = []

    async def ping() -> object:
        sent.append(1)
        return await redis.ping()

    results = await asyncio.gather(*(fail_fast.call(ping) for _ in range(10)), return_exceptions=True)
    assert len(sent) == 1
    assert sum(isinstance(result, RedisUnavailable) for result in results) == 9
    assert fail_fast.is_available
    assert await asyncio.gather(*(fail_fast.call(ping) for _ in range(10))) == [True] * 10


async def test_unreachable_redis_is_an_error_that_shows_no_address() -> None:
    port = free_port()
    async with open_redis(f"redis://127.0.0.1:{port}", 3) as nowhere:
        fail_fast = FailFastRedis(nowhere, seconds=60)
        with pytest.raises(RedisUnavailable) as failure:
            await fail_fast.call(nowhere.ping)
    assert str(port) not in str(failure.value)
    assert not fail_fast.is_available


async def raising() -> object:
    raise ConnectionRefusedError
