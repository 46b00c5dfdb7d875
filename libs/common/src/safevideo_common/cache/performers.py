"""Performers as the API shows them, under `performer:{id}` for an hour at most (contract, §5).

A reader that misses reads the database and fills; a writer commits and drops. Between a reader's two steps a writer may
do both of his, and the reader would then fill what is no longer true, for an hour. So a drop leaves a mark behind, and
while the mark is there nothing is filled. The mark outlives any reader that does not take `MARK_SECONDS` from its read
to its fill.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.tasks import preserve_cancellation

KEEP_SECONDS: Final = 3600
MARK_SECONDS: Final = 10
DROP_AT_ONCE: Final = 500
"""Ids of one round trip: few enough for its answer to come within the client's timeout."""

_FILL: Final = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

_DROP: Final = """
for place = 1, #KEYS, 2 do
  redis.call('SET', KEYS[place], 1, 'EX', ARGV[1])
  redis.call('DEL', KEYS[place + 1])
end
"""
"""A twentieth of the client's time for two commands a performer. A cluster refuses it for keys of several slots."""


class CacheUnavailable(Exception):
    """Redis gave no answer, or one that says that it cannot serve now."""


class PerformerCache:
    """Bytes by performer id. Each method raises `CacheUnavailable`; none tries twice.

    A round trip takes `seconds` at most, the wait for a free connection included.
    """

    def __init__(self, redis: Redis, *, seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._seconds = seconds
        self._fill_script = redis.register_script(_FILL)
        self._drop_script = redis.register_script(_DROP)

    async def get(self, performer_id: int) -> bytes | None:
        """What was filled, or None. A value of another type than text, left by a slip of the hand, is none either."""
        async with _translated(self._seconds):
            try:
                value = await self._redis.get(_key(performer_id))
            except ResponseError as error:
                if str(error).startswith("WRONGTYPE"):
                    return None
                raise
        return value if isinstance(value, bytes) else None

    async def fill(self, performer_id: int, value: bytes) -> bool:
        """Keep what the database said less than `MARK_SECONDS` ago. False when a writer has been there since."""
        async with _translated(self._seconds):
            filled = await self._fill_script([_key(performer_id), _mark(performer_id)], [value, KEEP_SECONDS])
        return bool(filled)

    async def drop(self, performer_ids: Iterable[int]) -> None:
        """Forget these performers, after their change was committed.

        When it raises, some may be forgotten and some not: do it again with all of them until it does not.
        """
        remaining = iter(performer_ids)
        while ids := list(islice(remaining, DROP_AT_ONCE)):
            async with _translated(self._seconds):
                try:
                    await self._drop_script([key for each in ids for key in (_mark(each), _key(each))], [MARK_SECONDS])
                except ResponseError:
                    await self._drop_one_by_one(ids)

    async def _drop_one_by_one(self, performer_ids: Iterable[int]) -> None:
        staged = self._redis.pipeline(transaction=False)
        for performer_id in performer_ids:
            # The mark comes first: what was filled before it is deleted, and after it nothing is filled.
            _ = staged.set(_mark(performer_id), 1, ex=MARK_SECONDS)
            _ = staged.delete(_key(performer_id))
        await staged.execute()


def _key(performer_id: int) -> str:
    return f"performer:{performer_id}"


def _mark(performer_id: int) -> str:
    # The braces put it into its key's slot of a cluster, where a script may only touch one slot.
    return f"{{performer:{performer_id}}}:written"


@asynccontextmanager
async def _translated(seconds: float) -> AsyncIterator[None]:
    with preserve_cancellation():
        try:
            async with asyncio.timeout(seconds):
                yield
        except (RedisError, OSError) as error:
            raise CacheUnavailable(type(error).__name__) from error
