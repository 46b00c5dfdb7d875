"""Commands to Redis that fail fast. Its outage costs a process one wait of 50 ms, not one a command."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.redis_pipeline import RedisPipeline
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

COMMAND_SECONDS: Final = 0.05
"""The deadline of one command, with connecting. A healthy Redis answers in well under a millisecond."""
PAUSE_SECONDS: Final = 0.5
"""After a failure no command is sent for so long; then one command tries whether Redis answers again."""

Answer = TypeVar("Answer")


class RedisUnavailable(Exception):
    """Redis did not answer in time, failed, or has failed a short while ago. The command may have had its effect."""


class FailFastRedis:
    """A database of Redis, for callers that can go on without it.

    After a failure every command fails at once, without I/O, for `pause_seconds` (jittered). Then a single command is
    let through; the others fail at once until it has succeeded. So replicas come back one command each.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        seconds: float = COMMAND_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.redis: Final = redis
        self.pipeline: Final = RedisPipeline(redis, seconds=seconds)
        self._seconds = seconds
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._retry_at: float | None = None

    @property
    def is_available(self) -> bool:
        """Return whether the last command succeeded."""
        return self._retry_at is None

    def script(self, source: str) -> "RedisScript":
        """Return a Lua script that runs in this database. Redis keeps it by its hash after the first run."""
        return RedisScript(self, source)

    async def call(self, command: Callable[[], Awaitable[Answer]]) -> Answer:
        """Await `command()`, once, for at most `seconds`. Raises `RedisUnavailable`; its text shows no address."""
        if self._retry_at is not None:
            if self._clock() < self._retry_at:
                raise RedisUnavailable("has failed a short while ago")
            self._pause()  # for the others, while this command tries
        try:
            with preserve_cancellation(), reset_as_os_error():
                async with asyncio.timeout(self._seconds):
                    answer = await command()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._pause()
            raise RedisUnavailable(type(error).__name__) from error
        self._retry_at = None
        return answer

    def _pause(self) -> None:
        self._retry_at = self._clock() + jittered(self._pause_seconds)


class RedisScript:
    """A Lua script: one decision in one round trip, which concurrent decisions share."""

    def __init__(self, redis: FailFastRedis, source: str) -> None:
        self._redis = redis
        self._script = redis.redis.register_script(source)

    async def run(self, key: str, arguments: Sequence[str | float]) -> Sequence[bytes | int]:
        """Run the script on its only key and return its answer. Raises `RedisUnavailable`."""
        answer: Sequence[bytes | int] = await self._redis.call(lambda: self._run(key, arguments))
        return answer

    async def _run(self, key: str, arguments: Sequence[str | float]) -> Any:
        try:
            return await self._redis.pipeline.run("EVALSHA", self._script.sha, 1, key, *arguments)
        except NoScriptError:
            return await self._script([key], arguments)
