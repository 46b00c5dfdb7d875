"""The cache of signing keys over time: when it fetches, and which keys it has meanwhile."""

import asyncio
import json

import pytest
from aiohttp import InvalidURL
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import get_default_algorithms

from safevideo_common.auth.jwks import (
    COOLDOWN_SECONDS,
    FETCH_SECONDS,
    FIRST_COOLDOWN_SECONDS,
    REFRESH_SECONDS,
    WAIT_SECONDS,
    JwksCache,
    JwksRejected,
    SigningKeysUnavailable,
)
from safevideo_common.tasks import running_task
from safevideo_testkit.virtual_time import in_virtual_time

KEY = ed25519.Ed25519PrivateKey.generate().public_key()


class Provider:
    """The other end: it serves `kids`, or fails, and counts the fetches."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.failure: Exception | None = None
        self.seconds = 0.0
        self.fetched_at: list[float] = []

    async def fetch(self) -> bytes:
        self.fetched_at.append(asyncio.get_running_loop().time())
        async with asyncio.timeout(FETCH_SECONDS):
            await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        jwk = get_default_algorithms()["EdDSA"].to_jwk(KEY, as_dict=True)
        return json.dumps({"keys": [jwk | {"kid": kid} for kid in self.kids]}).encode()


class Logger:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def warning(self, _sentence: str, *, code: str, reason: str) -> None:
        self.reasons.append(reason)


def cache_of(provider: Provider, logger: Logger | None = None) -> JwksCache:
    return JwksCache(provider.fetch, {"EdDSA"}, logger or Logger())  # type: ignore[arg-type]


async def has(cache: JwksCache, kid: str) -> bool:
    return await cache.load(kid) is not None


@in_virtual_time
async def test_cache_refreshes_keys_before_they_age_without_any_request() -> None:
    provider = Provider("a")
    cache = cache_of(provider)
    async with running_task(cache.run(), "keys"):
        await asyncio.sleep(3 * REFRESH_SECONDS + 1)
    assert provider.fetched_at == [0, REFRESH_SECONDS, 2 * REFRESH_SECONDS, 3 * REFRESH_SECONDS]


@in_virtual_time
async def test_cache_waits_for_a_rotated_key_when_the_last_fetch_is_older_than_the_cooldown() -> None:
    provider = Provider("a")
    cache = cache_of(provider)
    async with running_task(cache.run(), "keys"):
        assert await has(cache, "a")
        await asyncio.sleep(COOLDOWN_SECONDS + 1)
        provider.kids = ("b",)
        assert all(await asyncio.gather(*(has(cache, "b") for _ in range(100))))
        assert not await has(cache, "a")  # a good answer lacks it
    assert len(provider.fetched_at) == 2


@in_virtual_time
async def test_cache_accepts_a_rotated_key_within_a_cooldown_in_a_flood_of_unknown_kids() -> None:
    provider = Provider("a")
    cache = cache_of(provider)
    async with running_task(cache.run(), "keys"):
        await asyncio.sleep(COOLDOWN_SECONDS + 1)
        assert not await has(cache, "flood")  # causes a fetch, and so a cooldown
        provider.kids = ("a", "b")
        for number in range(100):
            assert not await has(cache, f"flood-{number}")
            await asyncio.sleep(COOLDOWN_SECONDS / 100)
        await asyncio.sleep(0.1)
        assert await has(cache, "b")
        await asyncio.sleep(COOLDOWN_SECONDS / 2)
    gaps = [later - earlier for earlier, later in zip(provider.fetched_at, provider.fetched_at[1:], strict=False)]
    assert min(gaps) >= COOLDOWN_SECONDS
    assert len(provider.fetched_at) == 3


@pytest.mark.parametrize(
    "failure",
    [OSError(), TimeoutError(), JwksRejected("it is not JSON"), InvalidURL("https:///"), UnicodeError("label")],
    ids=lambda failure: type(failure).__name__,
)
def test_cache_keeps_known_keys_while_the_address_fails(failure: Exception) -> None:
    @in_virtual_time
    async def scenario() -> None:
        provider, logger = Provider("a"), Logger()
        cache = cache_of(provider, logger)
        async with running_task(cache.run(), "keys"):
            assert await has(cache, "a")
            provider.failure = failure
            for _ in range(200):
                await asyncio.sleep(REFRESH_SECONDS / 100)
                assert await has(cache, "a")
                assert not await has(cache, "unknown")
            provider.failure = None
            provider.kids = ("b",)
            await asyncio.sleep(COOLDOWN_SECONDS + 0.1)
            assert await has(cache, "b")
        gaps = [later - earlier for earlier, later in zip(provider.fetched_at, provider.fetched_at[1:], strict=False)]
        assert min(gaps) >= COOLDOWN_SECONDS  # a failed fetch has its cooldown too
        assert logger.reasons

    scenario()


@in_virtual_time
async def test_cache_without_any_key_raises_and_does_not_hold_up_requests() -> None:
    provider = Provider("a")
    provider.seconds = 3600  # hangs
    cache, loop = cache_of(provider), asyncio.get_running_loop()
    async with running_task(cache.run(), "keys"):
        with pytest.raises(SigningKeysUnavailable):
            await cache.load("a")
        assert loop.time() <= WAIT_SECONDS
        await asyncio.sleep(FETCH_SECONDS - loop.time() + FIRST_COOLDOWN_SECONDS / 2)
        before = loop.time()
        with pytest.raises(SigningKeysUnavailable):
            await cache.load("a")
        assert loop.time() == before


def test_cache_has_one_fetch_at_a_time() -> None:
    @in_virtual_time
    async def scenario() -> None:
        provider = Provider("a")
        provider.seconds = WAIT_SECONDS / 2
        cache = cache_of(provider)
        async with running_task(cache.run(), "keys"):
            await asyncio.gather(*(cache.load(f"kid-{number}") for number in range(1000)))
            assert len(provider.fetched_at) == 1

    scenario()


@in_virtual_time
async def test_cache_without_any_key_tries_again_soon_when_somebody_needs_one() -> None:
    provider = Provider("a")
    provider.failure = OSError()
    cache = cache_of(provider)
    async with running_task(cache.run(), "keys"):
        with pytest.raises(SigningKeysUnavailable):
            await cache.load("a")
        provider.failure = None
        with pytest.raises(SigningKeysUnavailable):
            await cache.load("a")
        await asyncio.sleep(FIRST_COOLDOWN_SECONDS + 0.1)
        assert await has(cache, "a")
