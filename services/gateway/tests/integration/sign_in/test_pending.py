"""Sign-ins in progress: each is taken once, by its own browser, and there are never too many."""

import pytest
from redis.asyncio import Redis

from gateway.sign_in.pending import PendingSignIns


@pytest.fixture
def pending(redis: Redis) -> PendingSignIns:
    return PendingSignIns(redis, seconds=5, max_pending=3)


async def test_sign_in_is_taken_once_by_the_browser_that_began_it(pending: PendingSignIns) -> None:
    sign_in, state, secret = await pending.begin("sharegram", "/performers")
    assert await pending.take(state, "of another browser") is None
    first = await pending.take(state, secret)
    again = await pending.take(state, secret)
    assert first is not None
    assert again is not None
    assert (first.sign_in, first.is_first, again.sign_in.return_to, again.is_first) == (
        sign_in,
        True,
        "/performers",
        False,
    )
    assert await pending.take("unknown", secret) is None


async def test_oldest_sign_ins_give_way(pending: PendingSignIns) -> None:
    begun = [await pending.begin("sharegram", f"/{number}") for number in range(5)]
    left = [await pending.take(state, secret) for _, state, secret in begun]
    assert [each.sign_in.return_to if each else None for each in left] == [None, None, "/2", "/3", "/4"]


async def test_sign_in_that_somebody_damaged_is_none(pending: PendingSignIns, redis: Redis) -> None:
    _, state, secret = await pending.begin("sharegram", "/")
    (key,) = [each async for each in redis.scan_iter("sso:signin:*")]
    await redis.set(key, '{"browser": "x"}')
    assert await pending.take(state, secret) is None
