"""The cache of performers as the API shows them, under `performer:{id}` for at most an hour (contract, §5).

A reader that misses reads the database, then fills the cache. A writer commits, then invalidates. Between the two steps
of a reader a writer may do both of its own. The reader would then cache the old value for an hour.
So an invalidation leaves a tombstone, and while it exists nothing is cached. The tombstone outlives any reader that
takes less than `TOMBSTONE_SECONDS` from its read to its fill.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.resilience.redis_pipeline import RedisPipeline
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

TTL_SECONDS: Final = 3600
TOMBSTONE_SECONDS: Final = 10
MAX_IDS_PER_SCRIPT: Final = 500
"""Few enough for the script to answer within the client's timeout."""

_SET_IF_NOT_INVALIDATED: Final = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

_INVALIDATE: Final = """
for index = 1, #KEYS, 2 do
  redis.call('SET', KEYS[index], 1, 'EX', ARGV[1])
  redis.call('DEL', KEYS[index + 1])
end
"""
"""A twentieth of the client's time for two commands per performer. A cluster rejects it for keys of several slots."""


class CacheUnavailable(Exception):
    """Redis did not answer, or answered that it cannot serve now."""


class PerformerCache:
    """Bytes by performer id. Each method raises `CacheUnavailable`; none tries twice.

    A round trip takes at most `seconds`, including the wait for a free connection.
    """

    def __init__(self, redis: Redis, *, seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._seconds = seconds
        self._pipeline = RedisPipeline(redis, seconds=seconds)
        self._set_script = redis.register_script(_SET_IF_NOT_INVALIDATED)
        self._invalidate_script = redis.register_script(_INVALIDATE)

    async def get(self, performer_id: int) -> bytes | None:
        """Return the cached value, or None. A value of another Redis type, left by mistake, counts as None."""
        async with _translate_errors(self._seconds):
            try:
                value = await self._pipeline.run("GET", _key(performer_id))
            except ResponseError as error:
                if str(error).startswith("WRONGTYPE"):
                    return None
                raise
        return value if isinstance(value, bytes) else None

    async def set_if_not_invalidated(self, performer_id: int, value: bytes) -> bool:
        """Cache a value that was read less than `TOMBSTONE_SECONDS` ago. Return False if it was invalidated since."""
        async with _translate_errors(self._seconds):
            cached = await self._set_script([_key(performer_id), _tombstone(performer_id)], [value, TTL_SECONDS])
        return bool(cached)

    async def invalidate(self, performer_ids: Iterable[int]) -> None:
        """Remove these performers, after their change was committed.

        If it raises, some of them may be removed: repeat it with all of them until it succeeds.
        """
        remaining = iter(performer_ids)
        while ids := list(islice(remaining, MAX_IDS_PER_SCRIPT)):
            keys = [key for each in ids for key in (_tombstone(each), _key(each))]
            async with _translate_errors(self._seconds):
                try:
                    await self._invalidate_script(keys, [TOMBSTONE_SECONDS])
                except ResponseError:
                    await self._invalidate_one_by_one(ids)

    async def _invalidate_one_by_one(self, performer_ids: Iterable[int]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for performer_id in performer_ids:
            # The tombstone first: a value cached before it is deleted, and after it none is cached.
            _ = pipeline.set(_tombstone(performer_id), 1, ex=TOMBSTONE_SECONDS)
            _ = pipeline.delete(_key(performer_id))
        await pipeline.execute()


def _key(performer_id: int) -> str:
    return f"performer:{performer_id}"


def _tombstone(performer_id: int) -> str:
    # The braces put it into the slot of its key: in a cluster a script may only use one slot.
    return f"{{performer:{performer_id}}}:written"


@asynccontextmanager
async def _translate_errors(seconds: float) -> AsyncIterator[None]:
    with preserve_cancellation():
        try:
            with reset_as_os_error():
                async with asyncio.timeout(seconds):
                    yield
        except (RedisError, OSError) as error:
            raise CacheUnavailable(type(error).__name__) from error
