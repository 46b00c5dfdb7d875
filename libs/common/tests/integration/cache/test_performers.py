"""The performer cache on a real Redis: what a drop forgets, and what must not be filled after it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from safevideo_common.cache.performers import (
    MAX_IDS_PER_SCRIPT,
    TOMBSTONE_SECONDS,
    TTL_SECONDS,
    CacheUnavailable,
    PerformerCache,
)
from safevideo_common.cache.redis import open_redis
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually, ticking

MARK = "{performer:7}:written"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield redis


@pytest.fixture
def cache(redis: Redis) -> PerformerCache:
    return PerformerCache(redis, seconds=DEADLINE_SECONDS)


@pytest.fixture
async def impatient(redis_url: str) -> AsyncIterator[PerformerCache]:
    async with open_redis(redis_url, 0) as redis:
        yield PerformerCache(redis)


async def test_cached_value_lives_at_most_an_hour(cache: PerformerCache, redis: Redis) -> None:
    assert await cache.get(7) is None
    assert await cache.set_if_not_invalidated(7, b"seven")
    assert await cache.get(7) == b"seven"
    assert await cache.get(8) is None
    assert 0 < await redis.ttl("performer:7") <= TTL_SECONDS


async def test_invalidate_removes_only_the_named_performers(cache: PerformerCache) -> None:
    for performer_id in (1, 2, 3):
        await cache.set_if_not_invalidated(performer_id, b"x")
    await cache.invalidate([1, 3])
    assert [await cache.get(performer_id) for performer_id in (1, 2, 3)] == [None, b"x", None]


async def test_value_read_before_an_invalidation_is_not_cached_after_it(cache: PerformerCache) -> None:
    read_before = b"old"
    await cache.invalidate([7])
    assert not await cache.set_if_not_invalidated(7, read_before)
    assert await cache.get(7) is None


async def test_invalidate_removes_what_a_slow_reader_cached(cache: PerformerCache) -> None:
    await cache.set_if_not_invalidated(7, b"old")
    await cache.invalidate([7])
    assert await cache.get(7) is None


async def test_values_are_cached_again_after_the_tombstone_expires(cache: PerformerCache, redis: Redis) -> None:
    await cache.invalidate([7])
    assert 0 < await redis.ttl(MARK) <= TOMBSTONE_SECONDS
    await redis.delete(MARK)  # as its end would
    assert await cache.set_if_not_invalidated(7, b"new")


async def test_second_invalidation_renews_the_tombstone(cache: PerformerCache, redis: Redis) -> None:
    await cache.invalidate([7])
    await redis.expire(MARK, 1)
    await cache.invalidate([7])
    assert await redis.ttl(MARK) > 1


async def test_invalidate_accepts_more_ids_than_one_script_call(cache: PerformerCache, redis: Redis) -> None:
    ids = range(1, 2 * MAX_IDS_PER_SCRIPT + 2)
    await redis.mset({f"performer:{performer_id}": "x" for performer_id in ids})
    await cache.invalidate(iter(ids))
    assert await redis.keys("performer:*") == []


async def test_invalidate_works_without_the_script(redis: Redis, redis_url: str) -> None:
    await redis.mset({"performer:1": "x", "performer:2": "x"})
    await redis.acl_setuser("scriptless", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@scripting"])
    try:
        async with open_redis(redis_url.replace("://", "://scriptless:x@"), 0, seconds=DEADLINE_SECONDS) as scriptless:
            await PerformerCache(scriptless, seconds=DEADLINE_SECONDS).invalidate([1, 2])
        assert await redis.keys("performer:*") == []
    finally:
        await redis.acl_deluser("scriptless")


async def test_invalidate_stops_when_its_task_is_cancelled(cache: PerformerCache) -> None:
    """At every step of a drop: its client forgets a cancellation that comes just as it was answered."""

    async def drop_for_ever() -> None:
        while True:
            await cache.invalidate([7])

    for steps in range(100):
        task = asyncio.create_task(drop_for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=DEADLINE_SECONDS)
        assert done, f"cancelled after {steps} steps it went on"


def test_key_and_tombstone_share_a_cluster_slot() -> None:
    assert key_slot(b"performer:7") == key_slot(MARK.encode())


async def test_invalidate_without_ids_sends_nothing() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 0) as nowhere:
        await PerformerCache(nowhere).invalidate([])


@pytest.mark.parametrize("trouble", ["killed", "paused"])
@pytest.mark.parametrize("was_connected", [True, False])
async def test_cache_raises_cache_unavailable_in_time_without_redis(
    impatient: PerformerCache, redis_server: RunningServer, trouble: str, was_connected: bool
) -> None:
    if was_connected:
        await connected(impatient)
    with getattr(redis_server, trouble)():
        for call in (
            lambda: impatient.get(7),
            lambda: impatient.set_if_not_invalidated(7, b"x"),
            lambda: impatient.invalidate([7]),
        ):
            async with ticking() as ticks:
                with pytest.raises(CacheUnavailable):
                    await call()
            assert ticks.seconds < 20


@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_cache_recovers_after_an_outage_without_mixed_answers(
    impatient: PerformerCache, cache: PerformerCache, redis: Redis, redis_server: RunningServer, trouble: str
) -> None:
    for performer_id in (7, 8):
        await cache.set_if_not_invalidated(performer_id, str(performer_id).encode())

    async def is_in_the_file() -> bool:  # during an fsync Redis answers before it writes
        return bool((await redis.info("persistence"))["aof_buffer_length"] == 0)

    await eventually(is_in_the_file)
    await connected(impatient)
    with getattr(redis_server, trouble)(), pytest.raises(CacheUnavailable):
        await impatient.get(7)
    for both in (cache, impatient):
        assert [await answer(both, performer_id) for performer_id in (8, 7)] == [b"8", b"7"]


async def connected(cache: PerformerCache) -> None:
    """Return once it has had an answer."""
    await answer(cache, 1)


async def answer(cache: PerformerCache, performer_id: int) -> bytes | None:
    """What it has, once it answers: of a busy machine that is not always in time."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return await cache.get(performer_id)
            except CacheUnavailable:
                continue
