"""The rate limiter on a real Redis: one bucket for all processes, pauses, and shares while Redis is unavailable."""

import asyncio

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.resilience.rate_limiter import MAX_PAUSE_SECONDS, Rate, RateLimiter
from safevideo_devstack.backends.ports import free_port

SLOW = Rate(burst=5, per_second=5 / 3600)


def limiter_of(redis: FailFastRedis, processes: int = 1) -> RateLimiter:
    return RateLimiter(redis, prefix="ratelimit", processes=lambda: processes, clock=lambda: 1000.0)


async def test_replicas_share_one_bucket(patient: FailFastRedis) -> None:
    limiters = [limiter_of(patient) for _ in range(4)]
    decisions = await asyncio.gather(*(each.take("kyc:user:7", SLOW) for each in limiters for _ in range(5)))
    assert sum(each.allowed for each in decisions) == 5
    assert all(each.is_shared for each in decisions)


async def test_decision_has_remaining_tokens_and_times(patient: FailFastRedis) -> None:
    limiter = limiter_of(patient)
    decisions = [await limiter.take("a", SLOW) for _ in range(6)]
    assert [(each.allowed, each.remaining) for each in decisions] == [
        (True, 4), (True, 3), (True, 2), (True, 1), (True, 0), (False, 0),
    ]  # fmt: skip
    assert decisions[0].retry_after == 0
    assert decisions[0].reset_after == pytest.approx(720, abs=60)
    assert decisions[5].retry_after == pytest.approx(720, abs=60)
    assert decisions[5].reset_after == pytest.approx(3600, abs=60)
    assert (await limiter.take("b", SLOW)).allowed


async def test_tokens_come_back_at_the_rate(patient: FailFastRedis) -> None:
    limiter = limiter_of(patient)
    fast = Rate(burst=1, per_second=50)
    async with asyncio.timeout(120):
        for _ in range(5):
            while not (decision := await limiter.take("a", fast)).allowed:
                assert 0 < decision.retry_after <= 0.02


async def test_rejection_writes_nothing(patient: FailFastRedis, redis: Redis) -> None:
    limiter = limiter_of(patient)
    await limiter.take("a", SLOW, tokens=5)
    before = await redis.hgetall("ratelimit:a")
    assert not (await limiter.take("a", SLOW)).allowed
    assert await redis.hgetall("ratelimit:a") == before


async def test_bucket_disappears_once_it_is_full(patient: FailFastRedis, redis: Redis) -> None:
    await limiter_of(patient).take("a", SLOW)
    assert 720 <= await redis.ttl("ratelimit:a") <= 722


async def test_bucket_of_a_clock_an_hour_ahead_refills_nothing_twice(patient: FailFastRedis, redis: Redis) -> None:
    limiter = limiter_of(patient)
    await limiter.take("a", SLOW, tokens=5)
    at = float(await redis.hget("ratelimit:a", "at") or 0)
    await redis.hset("ratelimit:a", mapping={"at": at + 3600, "paused_until": at + 7200})
    decision = await limiter.take("a", SLOW)
    assert not decision.allowed
    assert decision.retry_after <= 720
    await redis.hset("ratelimit:a", "paused_until", 0)
    assert not (await limiter.take("a", SLOW)).allowed


async def test_pause_stops_every_process_and_is_capped(patient: FailFastRedis) -> None:
    await limiter_of(patient).pause("sharegram", 10**9)
    decision = await limiter_of(patient).take("sharegram", Rate(burst=100, per_second=100))
    assert not decision.allowed
    assert MAX_PAUSE_SECONDS - 60 < decision.retry_after <= MAX_PAUSE_SECONDS


async def test_shorter_pause_does_not_shorten_a_longer_one(patient: FailFastRedis) -> None:
    limiter = limiter_of(patient)
    await limiter.pause("sharegram", 200)
    await limiter.pause("sharegram", 1)
    assert (await limiter.take("sharegram", Rate(100, 100))).retry_after > 100


async def test_process_takes_its_share_while_redis_is_unavailable() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 3) as nowhere:
        limiter = limiter_of(FailFastRedis(nowhere), processes=4)
        decisions = [await limiter.take("a", Rate(burst=8, per_second=4)) for _ in range(3)]
        assert [(each.allowed, each.is_shared) for each in decisions] == [(True, False), (True, False), (False, False)]
        assert decisions[2].retry_after == 1.0
        await limiter.pause("b", 30)
        assert (await limiter.take("b", Rate(burst=8, per_second=4))).retry_after == 30


async def test_value_of_another_type_counts_as_an_outage(patient: FailFastRedis, redis: Redis) -> None:
    await redis.set("ratelimit:a", "by mistake")
    assert not (await limiter_of(patient).take("a", SLOW)).is_shared
