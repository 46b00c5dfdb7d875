"""The last use of sessions: noted in memory, written together, forgotten with the session."""

from datetime import timedelta

from redis.asyncio import Redis

from safevideo_common.auth.session_uses import SessionUses
from safevideo_common.auth.sessions import LIFETIME, USES_KEY, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import FakeClock


async def commands(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_commands_processed"])


async def test_uses_are_written_together_and_forgotten_with_their_sessions(redis_url: str) -> None:
    clock = FakeClock()
    async with open_redis(redis_url, 2, seconds=5) as redis:
        uses, other, sessions = SessionUses(redis, clock), SessionUses(redis, clock), SessionStore(redis, seconds=5)
        before = await commands(redis)
        for number in range(100):
            uses.note(f"s{number % 2}")
        assert await commands(redis) == before + 1  # its own
        await uses.write()
        assert await sessions.last_uses(["s0", "s1", "s2"]) == {"s0": clock(), "s1": clock()}
        first = clock()
        clock.advance(timedelta(minutes=1))
        uses.note("s1")
        clock.advance(-timedelta(minutes=2))
        other.note("s1")  # a replica whose clock is behind
        await uses.write()
        await other.write()
        assert await sessions.last_uses(["s1"]) == {"s1": first + timedelta(minutes=1)}
        clock.advance(LIFETIME + timedelta(minutes=10))
        uses.note("s2")
        await uses.write()
        assert await redis.zrange(USES_KEY, 0, -1) == [b"s2"]
        assert await sessions.last_uses([]) == {}


async def test_uses_that_redis_does_not_take_are_lost_without_an_error() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 2, seconds=0.5) as redis:
        uses = SessionUses(redis, FakeClock())
        uses.note("s1")
        await uses.write()
        await uses.write()
