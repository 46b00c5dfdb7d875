"""A token bucket: a rate with a burst."""

from collections.abc import Callable

Clock = Callable[[], float]


class TokenBucket:
    """A token bucket: `burst` at once, and `per_second` in the long run."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take them, or say that there are not as many and take none."""
        self._refill(now)
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def missing_seconds(self, now: float) -> float:
        """Until there is a whole token; 0 or less when there is one."""
        self._refill(now)
        return (1 - self._tokens) / self._per_second

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
