"""The performer cache for the gateway: used if Redis answers, and never required."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from safevideo_common.cache.performers import CacheUnavailable, PerformerCache
from safevideo_common.observability.logs import FilteringBoundLogger

PAUSE_SECONDS: Final = 1.0
"""The cache is not used for this time after a failure, so that an outage does not slow every request down."""


class BestEffortCache:
    """A `Cache` that is empty while Redis is unavailable. It writes at most one log line per pause."""

    def __init__(
        self, cache: PerformerCache, logger: FilteringBoundLogger, *, seconds: Callable[[], float] = monotonic
    ) -> None:
        self._cache = cache
        self._logger = logger
        self._seconds = seconds
        self._paused_until = 0.0

    async def get(self, performer_id: int) -> bytes | None:
        """Return the cached value, or None."""
        if self._is_paused():
            return None
        try:
            return await self._cache.get(performer_id)
        except CacheUnavailable as error:
            self._pause(error)
            return None

    async def set_if_not_invalidated(self, performer_id: int, value: bytes) -> None:
        """Cache a value that was just read from the database, unless a writer has invalidated it since."""
        if self._is_paused():
            return
        try:
            await self._cache.set_if_not_invalidated(performer_id, value)
        except CacheUnavailable as error:
            self._pause(error)

    def _is_paused(self) -> bool:
        return self._seconds() < self._paused_until

    def _pause(self, error: CacheUnavailable) -> None:
        if self._is_paused():  # another request, started before the pause, has already paused it
            return
        self._paused_until = self._seconds() + PAUSE_SECONDS
        self._logger.warning("Performer cache unavailable", code="CACHE_UNAVAILABLE", error=str(error))
