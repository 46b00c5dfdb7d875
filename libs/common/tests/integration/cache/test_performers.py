"""The performer cache on a real Redis: what a drop forgets, and what must not be filled after it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from safevideo_common.cache.performers import (
    DROP_AT_ONCE,
    KEEP_SECONDS,
    MARK_SECONDS,
    CacheUnavailable,
    PerformerCache,
)
from safevideo_common.cache.redis import open_redis
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking

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


async def test_what_was_filled_is_there_for_an_hour_at_most(cache: PerformerCache, redis: Redis) -> None:
    assert await cache.get(7) is None
    assert await cache.fill(7, b"seven")
    assert await cache.get(7) == b"seven"
    assert await cache.get(8) is None
    assert 0 < await redis.ttl("performer:7") <= KEEP_SECONDS


async def test_a_drop_forgets_those_it_names_alone(cache: PerformerCache) -> None:
    for performer_id in (1, 2, 3):
        await cache.fill(performer_id, b"x")
    await cache.drop([1, 3])
    assert [await cache.get(performer_id) for performer_id in (1, 2, 3)] == [None, b"x", None]


async def test_a_reader_that_read_before_a_drop_fills_nothing_after_it(cache: PerformerCache) -> None:
    read_before = b"old"
    await cache.drop([7])
    assert not await cache.fill(7, read_before)
    assert await cache.get(7) is None


async def test_what_a_slow_reader_filled_before_the_drop_is_gone_after_it(cache: PerformerCache) -> None:
    await cache.fill(7, b"old")
    await cache.drop([7])
    assert await cache.get(7) is None


async def test_a_mark_ends_by_itself_and_filling_begins_again(cache: PerformerCache, redis: Redis) -> None:
    await cache.drop([7])
    assert 0 < await redis.ttl(MARK) <= MARK_SECONDS
    await redis.delete(MARK)  # as its end would
    assert await cache.fill(7, b"new")


async def test_a_second_drop_renews_the_mark(cache: PerformerCache, redis: Redis) -> None:
    await cache.drop([7])
    await redis.expire(MARK, 1)
    await cache.drop([7])
    assert await redis.ttl(MARK) > 1


async def test_more_ids_than_one_round_trip_takes_are_all_dropped(cache: PerformerCache, redis: Redis) -> None:
    ids = range(1, 2 * DROP_AT_ONCE + 2)
    await redis.mset({f"performer:{performer_id}": "x" for performer_id in ids})
    await cache.drop(iter(ids))
    assert await redis.keys("performer:*") == []


async def test_where_no_script_may_touch_many_keys_they_are_dropped_all_the_same(redis: Redis, redis_url: str) -> None:
    await redis.mset({"performer:1": "x", "performer:2": "x"})
    await redis.acl_setuser("scriptless", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@scripting"])
    try:
        async with open_redis(redis_url.replace("://", "://scriptless:x@"), 0, seconds=DEADLINE_SECONDS) as scriptless:
            await PerformerCache(scriptless, seconds=DEADLINE_SECONDS).drop([1, 2])
        assert await redis.keys("performer:*") == []
    finally:
        await redis.acl_deluser("scriptless")


async def test_who_is_cancelled_while_it_drops_stops(cache: PerformerCache) -> None:
    """At every step of a drop: its client forgets a cancellation that comes just as it was answered."""

    async def drop_for_ever() -> None:
        while True:
            await cache.drop([7])

    for steps in range(100):
        task = asyncio.create_task(drop_for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=DEADLINE_SECONDS)
        assert done, f"cancelled after {steps} steps it went on"


def test_key_and_mark_share_a_slot_of_a_cluster() -> None:
    assert key_slot(b"performer:7") == key_slot(MARK.encode())


async def test_nothing_to_drop_asks_nobody() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 0) as nowhere:
        await PerformerCache(nowhere).drop([])


@pytest.mark.parametrize("trouble", ["killed", "paused"])
@pytest.mark.parametrize("was_connected", [True, False])
async def test_without_redis_each_call_says_so_in_time(
    impatient: PerformerCache, redis_server: RunningServer, trouble: str, was_connected: bool
) -> None:
    if was_connected:
        await connected(impatient)
    with getattr(redis_server, trouble)():
        for call in (lambda: impatient.get(7), lambda: impatient.fill(7, b"x"), lambda: impatient.drop([7])):
            async with ticking() as ticks:
                with pytest.raises(CacheUnavailable):
                    await call()
            assert ticks.seconds < 20


@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_a_redis_that_is_back_works_and_answers_are_not_mixed_up(
    impatient: PerformerCache, cache: PerformerCache, redis_server: RunningServer, trouble: str
) -> None:
    for performer_id in (7, 8):
        await cache.fill(performer_id, str(performer_id).encode())
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
