"""Token buckets: a rate with a burst."""

from collections import OrderedDict
from collections.abc import Callable

Clock = Callable[[], float]


class TokenBucket:
    """A bucket that holds up to `burst` tokens and gets `per_second` new ones."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take tokens. If there are not enough, take none and return False."""
        self._refill(now)
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def available(self, now: float) -> float:
        """Return the number of tokens, with fractions."""
        self._refill(now)
        return self._tokens

    def missing_seconds(self, now: float) -> float:
        """Return the seconds until there is a whole token; 0 or less if there is one."""
        self._refill(now)
        return (1 - self._tokens) / self._per_second

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now


class TokenBuckets:
    """A token bucket for each of the last `max_keys` used keys. A forgotten key starts with a full bucket."""

    def __init__(self, burst: float, per_second: float, max_keys: int) -> None:
        self._burst = burst
        self._per_second = per_second
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def get(self, key: str) -> TokenBucket:
        """Return the bucket of `key`, creating it if needed."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._burst, self._per_second)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket

    def missing_seconds(self, key: str, now: float) -> float:
        """Return `missing_seconds` of the bucket of `key`, without creating one."""
        bucket = self._buckets.get(key)
        return 0 if bucket is None else bucket.missing_seconds(now)
