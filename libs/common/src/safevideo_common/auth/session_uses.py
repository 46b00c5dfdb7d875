"""The last use of each session, to the minute, for those who administer accounts (`sso:uses` in Redis DB 2).

Requests only note the use in memory. One command a minute writes what came together, so a request costs nothing more.
What Redis does not take is lost: nothing but a time on a page depends on it.
"""

import asyncio
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from safevideo_common.auth.sessions import LIFETIME, USES_KEY
from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.clock import Clock
from safevideo_common.resilience.backoff import jittered
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

WRITE_SECONDS: Final = 60.0
MAX_NOTED: Final = 50_000
"""Sessions of one process that are noted between two writes. More are not."""


class SessionUses:
    """The uses of sessions in this process. `run` must run beside it."""

    def __init__(self, redis: Redis, clock: Clock, *, seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._clock = clock
        self._seconds = seconds
        self._noted: dict[str, float] = {}

    def note(self, session_id: str) -> None:
        """Note that a session was used now."""
        if session_id in self._noted or len(self._noted) < MAX_NOTED:
            self._noted[session_id] = self._clock().timestamp()

    async def run(self) -> None:
        """Write what was noted every minute, until cancelled."""
        while True:
            await asyncio.sleep(jittered(WRITE_SECONDS))
            await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time, and forget sessions that have ended."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        ended = (self._clock() - LIFETIME - timedelta(minutes=5)).timestamp()
        try:
            with preserve_cancellation(), reset_as_os_error():
                async with asyncio.timeout(self._seconds), self._redis.pipeline(transaction=False) as pipeline:
                    _ = pipeline.zadd(USES_KEY, dict(noted), gt=True)
                    _ = pipeline.zremrangebyscore(USES_KEY, "-inf", ended)
                    _ = pipeline.expire(USES_KEY, LIFETIME)
                    await pipeline.execute()
        except (RedisError, OSError):  # TimeoutError is an OSError
            return
