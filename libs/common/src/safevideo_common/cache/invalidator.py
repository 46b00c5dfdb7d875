"""The cache invalidator: it removes cached performers, later if Redis is unavailable."""

import asyncio
from collections.abc import Collection
from typing import Final

from safevideo_common.cache.performers import CacheUnavailable, PerformerCache
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

MAX_PENDING: Final = 100_000
"""Ids in memory. Beyond it a cached performer may be out of date until it expires; an error is logged."""

BACKOFF: Final = Backoff(initial=0.5, maximum=5.0)


class RedisCacheInvalidator:
    """Invalidates cached performers. Event processing never waits for Redis.

    If Redis is unavailable, the invalidations are pending in memory. A process that is killed then loses them, and the
    cached values expire after their hour.
    """

    def __init__(self, cache: PerformerCache, logger: FilteringBoundLogger) -> None:
        self._cache = cache
        self._logger = logger
        self._pending: set[int] = set()
        self._has_pending = asyncio.Event()

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        """Invalidate the cached values now, or later if Redis is unavailable. Never raise for that."""
        if not self._pending:
            try:
                return await self._cache.invalidate(performer_ids)
            except CacheUnavailable as error:
                self._logger.warning(
                    "Cache unavailable, invalidations pending", code="CACHE_UNAVAILABLE", reason=str(error)
                )
        if len(self._pending) + len(performer_ids) > MAX_PENDING:
            self._logger.error("Cached performers may be out of date", code="CACHE_DROPS_LOST", lost=len(performer_ids))
        else:
            self._pending.update(performer_ids)
        self._has_pending.set()
        return None

    async def run(self) -> None:
        """Retry pending invalidations until cancelled. One task runs this."""
        while True:
            await self._has_pending.wait()
            await self._retry_invalidations()
            self._logger.info("Cache available, invalidations done")

    async def _retry_invalidations(self) -> None:
        failures = 0
        while self._pending:
            ids = frozenset(self._pending)
            try:
                await self._cache.invalidate(ids)
            except CacheUnavailable:
                failures += 1
                await asyncio.sleep(BACKOFF.delay(failures))
            else:
                self._pending -= ids
        self._has_pending.clear()
