"""The read-through cache of performers: what it spares, what it must never show, and what happens without it."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import pytest
from redis.asyncio import Redis

from gateway.performers.cache import PAUSE_SECONDS
from safevideo_common.cache.performers import TTL_SECONDS, PerformerCache
from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking
from safevideo_testkit.http import Api

Store = Callable[..., Awaitable[int]]
Rename = Callable[[str, str], Awaitable[None]]


async def username(api: Api, performer_id: int, headers: dict[str, str]) -> str:
    answer = await api.get(f"/api/v1/performers/{performer_id}", headers)
    assert answer.status == 200, answer
    return str(answer.json["data"]["username"])


async def test_second_read_of_a_performer_is_from_the_cache(
    gateway: Api, user: dict[str, str], store: Store, rename: Rename, redis: Redis
) -> None:
    performer_id = await store("sg_1")
    await username(gateway, performer_id, user)
    await rename("sg_1", "other")
    assert await username(gateway, performer_id, user) == "jane"
    assert TTL_SECONDS - 10 <= await redis.ttl(f"performer:{performer_id}") <= TTL_SECONDS
    metrics = (await gateway.get("/metrics")).body.decode()
    assert 'safevideo_performer_reads_total{source="cache"} 1.0' in metrics
    assert 'safevideo_performer_reads_total{source="database"} 1.0' in metrics


async def test_invalidation_makes_a_change_visible_at_once(
    gateway: Api, user: dict[str, str], store: Store, rename: Rename, redis: Redis
) -> None:
    performer_id = await store("sg_1")
    await username(gateway, performer_id, user)
    await rename("sg_1", "other")
    await PerformerCache(redis, seconds=5).invalidate([performer_id])
    assert await username(gateway, performer_id, user) == "other"


async def test_nothing_is_cached_just_after_an_invalidation(
    gateway: Api, user: dict[str, str], store: Store, redis: Redis
) -> None:
    performer_id = await store("sg_1")
    await PerformerCache(redis, seconds=5).invalidate([performer_id])
    await username(gateway, performer_id, user)
    assert await redis.exists(f"performer:{performer_id}") == 0


async def test_concurrent_reads_and_writes_leave_the_last_write_visible(
    gateway: Api, user: dict[str, str], store: Store, rename: Rename, redis: Redis
) -> None:
    cache = PerformerCache(redis, seconds=5)

    async def write(performer_id: int) -> None:
        await rename(f"sg_{performer_id}", "other")
        await cache.invalidate([performer_id])

    performer_ids = [await store(f"sg_{number}") for number in range(1, 61)]
    for performer_id in performer_ids:
        await asyncio.gather(*(username(gateway, performer_id, user) for _ in range(3)), write(performer_id))
    assert {await username(gateway, performer_id, user) for performer_id in performer_ids} == {"other"}


async def test_missing_performer_is_not_cached(gateway: Api, user: dict[str, str], store: Store) -> None:
    assert (await gateway.get("/api/v1/performers/1", user)).status == 404
    assert await store("sg_1") == 1
    assert await username(gateway, 1, user) == "jane"


@pytest.mark.parametrize("left", [b"", b"nonsense", b"{}", b"\xff", b"[" * 5_000, b'{"id": "1"}'])
async def test_malformed_cache_entry_is_replaced(
    gateway: Api, user: dict[str, str], store: Store, redis: Redis, left: bytes
) -> None:
    performer_id = await store("sg_1")
    await redis.set(f"performer:{performer_id}", left)
    assert await username(gateway, performer_id, user) == "jane"
    assert await redis.get(f"performer:{performer_id}") != left


async def test_cache_entry_of_another_redis_type_is_ignored(
    gateway: Api, user: dict[str, str], store: Store, redis: Redis
) -> None:
    performer_id = await store("sg_1")
    await redis.rpush(f"performer:{performer_id}", "x")
    assert await username(gateway, performer_id, user) == "jane"


@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_performer_is_read_from_the_database_without_redis(
    impatient: Api, redis_server: RunningServer, user: dict[str, str], store: Store, trouble: str
) -> None:
    performer_id = await store("sg_1")
    await username(impatient, performer_id, user)
    with getattr(redis_server, trouble)():
        assert await username(impatient, performer_id, user) == "jane"
        assert (await impatient.get("/readyz")).status == 200


async def test_hanging_redis_delays_one_request_per_pause(
    impatient: Api, redis_server: RunningServer, user: dict[str, str], store: Store
) -> None:
    performer_id = await store("sg_1")
    await username(impatient, performer_id, user)
    requests = 80
    with redis_server.paused():
        async with ticking() as ticks:
            for _ in range(requests):
                assert await username(impatient, performer_id, user) == "jane"
    assert ticks.seconds < requests * ANSWER_SECONDS / 2


async def test_hanging_redis_is_logged_once_per_pause_for_many_requests(
    impatient: Api, redis_server: RunningServer, user: dict[str, str], store: Store, logged: Callable[[], list[str]]
) -> None:
    performer_id = await store("sg_1")
    await username(impatient, performer_id, user)
    began = perf_counter()
    with redis_server.paused():
        async with ticking() as ticks:
            await asyncio.gather(*(username(impatient, performer_id, user) for _ in range(50)))
        assert ticks.seconds < 50 * ANSWER_SECONDS
    pauses = 1 + (perf_counter() - began) // PAUSE_SECONDS
    assert 1 <= len([line for line in logged() if " CACHE_UNAVAILABLE " in line]) <= pauses


@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_cache_is_used_again_after_an_outage(
    impatient: Api,
    redis_server: RunningServer,
    redis: Redis,
    user: dict[str, str],
    store: Store,
    rename: Rename,
    trouble: str,
) -> None:
    performer_id = await store("sg_1")
    with getattr(redis_server, trouble)():
        await asyncio.gather(*(username(impatient, performer_id, user) for _ in range(50)))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await redis.get(f"performer:{performer_id}") is None:
            await username(impatient, performer_id, user)
        await rename("sg_1", "other")
        while await username(impatient, performer_id, user) != "jane":  # on a busy machine Redis may answer too late
            pass
