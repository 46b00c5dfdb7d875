"""Reports of what waits in the spools of webhook-ingest, in Redis: one a process, and health adds them up.

Neither Kafka nor the database is needed for it (ADR 6). A report expires, so a process that was killed is not counted.
Its events are counted again once another process has adopted its spool.
"""

from typing import Final, NamedTuple

import msgspec

from safevideo_common.resilience.fail_fast_redis import FailFastRedis

REPORT_SECONDS: Final = 30
"""The time for which a report holds."""
INDEX_SECONDS: Final = 3600
_PREFIX: Final = "webhooks:spool"
_INDEX: Final = f"{_PREFIX}s"


class SpoolReport(msgspec.Struct, frozen=True):
    """The undelivered events of one process, and the age of the oldest in seconds; 0 without any."""

    events: int
    oldest_seconds: float


class SpoolTotal(NamedTuple):
    """The reports of all processes together: the events of all, and the greatest age in seconds."""

    processes: int
    events: int
    oldest_seconds: float


_decode: Final = msgspec.json.Decoder(SpoolReport).decode


class SpoolReports:
    """The reports in Redis. Every method is one or two round trips and raises `RedisUnavailable`."""

    def __init__(self, redis: FailFastRedis) -> None:
        self._redis = redis

    async def write(self, process: str, report: SpoolReport) -> None:
        """Replace the report of a process."""
        pipeline = self._redis.redis.pipeline(transaction=True)
        _ = pipeline.set(_key(process), msgspec.json.encode(report), ex=REPORT_SECONDS)
        _ = pipeline.sadd(_INDEX, _key(process))
        _ = pipeline.expire(_INDEX, INDEX_SECONDS)
        await self._redis.call(pipeline.execute)

    async def withdraw(self, process: str) -> None:
        """Delete the report of a process that ends."""
        await self._redis.call(lambda: self._redis.redis.delete(_key(process)))

    async def total(self) -> SpoolTotal:
        """Return all reports that still hold, and forget the processes of the others."""
        redis = self._redis.redis
        keys = list(await self._redis.call(lambda: redis.smembers(_INDEX)))
        found = await self._redis.call(lambda: redis.mget(keys)) if keys else []
        ended = [key for key, value in zip(keys, found, strict=True) if value is None]
        if ended:  # one that reports again at this moment is back with its next report
            await self._redis.call(lambda: redis.srem(_INDEX, *ended))
        reports = [_decode(value) for value in found if value is not None]
        oldest = max((each.oldest_seconds for each in reports), default=0.0)
        return SpoolTotal(len(reports), sum(each.events for each in reports), oldest)


def _key(process: str) -> str:
    return f"{_PREFIX}:{process}"
