"""Dropping cached performers, also those that could not be dropped at once because Redis was away."""

import asyncio
from collections.abc import Collection
from typing import Final

from safevideo_common.cache.performers import CacheUnavailable, PerformerCache
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

MAX_PENDING: Final = 100_000
"""Ids that are remembered. Beyond them a cached performer may be as old as its hour; an error line says so."""

BACKOFF: Final = Backoff(initial=0.5, maximum=5.0)


class RedisCacheInvalidator:
    """Owes the cache what it could not be told; the events are applied meanwhile, without waiting for Redis.

    A process that is killed while Redis is away forgets what it owed; then the cache's hour is the bound.
    """

    def __init__(self, cache: PerformerCache, log: FilteringBoundLogger) -> None:
        self._cache = cache
        self._log = log
        self._owed: set[int] = set()
        self._is_owing = asyncio.Event()

    async def drop(self, performer_ids: Collection[int]) -> None:
        """Drop them now, or by and by. Never raises for a Redis that is away."""
        if not self._owed:
            try:
                return await self._cache.invalidate(performer_ids)
            except CacheUnavailable as error:
                self._log.warning("Cache away, drops owed", code="CACHE_UNAVAILABLE", reason=str(error))
        self._owe(performer_ids)
        return None

    async def run(self) -> None:
        """Pay what is owed, until cancelled. One task runs this."""
        while True:
            await self._is_owing.wait()
            await self._pay()
            self._log.info("Cache back, nothing owed")

    def _owe(self, performer_ids: Collection[int]) -> None:
        if len(self._owed) + len(performer_ids) > MAX_PENDING:
            self._log.error("Cached performers may be out of date", code="CACHE_DROPS_LOST", lost=len(performer_ids))
        else:
            self._owed.update(performer_ids)
        self._is_owing.set()

    async def _pay(self) -> None:
        tries = 0
        while self._owed:
            due = frozenset(self._owed)
            try:
                await self._cache.invalidate(due)
            except CacheUnavailable:
                tries += 1
                await asyncio.sleep(BACKOFF.delay(tries))
            else:
                self._owed -= due
        self._is_owing.clear()
