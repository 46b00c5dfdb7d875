"""The performer cache as the gateway wants it: worth a try, and never worth waiting for."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from safevideo_common.cache.performers import CacheUnavailable, PerformerCache
from safevideo_common.observability.logs import FilteringBoundLogger

PAUSE_SECONDS: Final = 1.0
"""How long it is left alone after a failure, so that an outage does not slow every request down."""


class BestEffortCache:
    """A `Cache` that is empty while Redis is away. The log has one line a pause, however many requests met it."""

    def __init__(
        self, cache: PerformerCache, log: FilteringBoundLogger, *, seconds: Callable[[], float] = monotonic
    ) -> None:
        self._cache = cache
        self._log = log
        self._seconds = seconds
        self._paused_until = 0.0

    async def get(self, performer_id: int) -> bytes | None:
        """What was filled, if it is still there and Redis is."""
        if self._is_paused():
            return None
        try:
            return await self._cache.get(performer_id)
        except CacheUnavailable as error:
            self._pause(error)
            return None

    async def fill(self, performer_id: int, value: bytes) -> None:
        """Keep what the database has just said, if Redis is there and no writer has been since."""
        if self._is_paused():
            return
        try:
            await self._cache.fill(performer_id, value)
        except CacheUnavailable as error:
            self._pause(error)

    def _is_paused(self) -> bool:
        return self._seconds() < self._paused_until

    def _pause(self, error: CacheUnavailable) -> None:
        if self._is_paused():  # another request, begun before the pause, has found out first
            return
        self._paused_until = self._seconds() + PAUSE_SECONDS
        self._log.warning("Performer cache is away", code="CACHE_UNAVAILABLE", error=str(error))
