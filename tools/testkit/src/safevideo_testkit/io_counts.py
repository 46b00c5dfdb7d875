"""The cost of a request: the statements and the Redis commands that it leads to."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import Engine

from safevideo_common.cache.redis import open_redis

_OF_REQUESTS: Final = ("evalsha", "get", "set", "zadd", "expire", "zcard", "zremrangebyscore", "exists")
"""The commands that requests send, or run in scripts. Polls of flags and of health send others."""


class Costs(NamedTuple):
    """Numbers of statements, without BEGIN and COMMIT, and of the Redis commands of requests."""

    statements: int
    commands: int

    def __le__(self, other: object) -> bool:
        """Return whether neither number is above the other's."""
        assert isinstance(other, Costs)
        return self.statements <= other.statements and self.commands <= other.commands


Request = Callable[[int], Awaitable[object]]


async def costs_of(
    request: Request, redis_url: str, limit: Costs, *, before: Request | None = None, times: int = 4
) -> Costs:
    """Return the least that one of some requests costs. Background work of the process adds to the others.

    It ends with the first that costs no more than `limit`. `before` is called with the same number before each, and is
    not counted.
    """
    found: list[Costs] = []
    async with open_redis(redis_url, 0, seconds=5) as redis:
        for number in range(times):
            if before is not None:
                await before(number)
            heard = _Statements()
            event.listen(Engine, "before_cursor_execute", heard)
            commands = await _commands(redis)
            try:
                await request(number)
            finally:
                event.remove(Engine, "before_cursor_execute", heard)
            found.append(Costs(heard.count, await _commands(redis) - commands))
            if found[-1] <= limit:
                break
    return Costs(min(each.statements for each in found), min(each.commands for each in found))


class _Statements:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_event: object) -> None:
        self.count += 1


async def _commands(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in _OF_REQUESTS)
