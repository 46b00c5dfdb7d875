"""Feature flags on a real Redis, set as an operator does with redis-cli."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.errors import FeatureDisabled
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.resilience.feature_flags import FeatureFlags, FlagStore
from safevideo_testkit.eventually import DEADLINE_SECONDS

KYC = "feature:kyc:enabled"


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield redis


@pytest.fixture
def store(cache: Redis) -> FlagStore:
    return FlagStore(FailFastRedis(cache, seconds=DEADLINE_SECONDS))


@pytest.fixture
def flags(store: FlagStore, log: FilteringBoundLogger, clock: Seconds) -> FeatureFlags:
    return FeatureFlags(store, log, clock=clock)


@pytest.fixture
def logged(log: FilteringBoundLogger, logs: Path) -> Callable[[str], int]:
    def count(text: str) -> int:
        log.error("The test looks", code="LOOK")
        return (logs / "app.log").read_text().count(text)

    return count


@pytest.mark.parametrize("word", ["false", "False", "0", "off", " FALSE\n"])
async def test_flag_is_switched_off_by_each_word(flags: FeatureFlags, cache: Redis, word: str) -> None:
    await cache.set(KYC, word)
    await flags.poll()
    assert not flags.is_enabled("kyc")
    with pytest.raises(FeatureDisabled):
        flags.require("kyc")
    await cache.set(KYC, "true")
    await flags.poll()
    flags.require("kyc")


async def test_flag_without_a_value_has_its_default(flags: FeatureFlags, cache: Redis) -> None:
    await flags.poll()
    assert flags.is_enabled("kyc")
    await cache.set(KYC, "off")
    await flags.poll()
    await cache.delete(KYC)
    await flags.poll()
    assert flags.is_enabled("kyc")


async def test_unreadable_value_keeps_the_last_one_and_warns_once(
    flags: FeatureFlags, cache: Redis, logged: Callable[[str], int]
) -> None:
    await cache.set(KYC, "off")
    await flags.poll()
    await cache.set(KYC, "of course")
    await flags.poll()
    await cache.delete(KYC)
    await cache.lpush(KYC, "a value of another type")
    await flags.poll()
    assert not flags.is_enabled("kyc")
    assert logged("cannot be read") == 1


async def test_unknown_flag_warns(flags: FeatureFlags, cache: Redis, logged: Callable[[str], int]) -> None:
    await cache.set("feature:kcy:enabled", "off")
    await flags.poll()
    await flags.poll()
    assert logged("Feature flag is unknown") == 1


async def test_value_holds_until_its_own_expiry_without_redis(
    flags: FeatureFlags, cache: Redis, clock: Seconds, redis_url: str
) -> None:
    await cache.set(KYC, "off", ex=3600)
    await flags.poll()
    await cache.aclose()
    clock.now += 3599
    assert not flags.is_enabled("kyc")
    clock.now += 2
    assert flags.is_enabled("kyc")


async def test_store_sets_a_flag_for_a_time(store: FlagStore) -> None:
    await store.put("kyc", enabled=False, seconds=3600)
    value = (await store.read())["kyc"]
    assert not value.enabled
    assert value.seconds_left is not None
    assert 3500 < value.seconds_left <= 3600
    assert (await store.read())["sso"].is_default
