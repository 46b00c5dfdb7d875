"""Throttling of clients that send invalid signatures.

A client address that sends them faster than its rate is *throttled*, until it was quiet for a while. Sharegram may
share an address with a forger (proxy, NAT), so a valid signature from a throttled address costs nothing:

- A body of at most `CHEAP_BYTES` is always verified: its HMAC costs less than a response that rejects it.
- Larger bodies of all throttled clients together get `large_bytes_per_second`. Beyond that they get 429 before the body
  is read. So a flood of large bodies delays only large bodies of throttled clients.
- All throttled clients together may open `connections_per_second`. Beyond that a new connection is closed unread. A
  new connection costs more than anything else about a forged webhook. Open connections stay.
- An invalid signature gets 429 instead of 401, and late (`Tarpit`). That slows a forger who waits for responses; one
  who does not wait gains nothing. If failures come from everywhere at once, this applies to every address.
"""

import asyncio
import math
import time
from typing import Final

from safevideo_common.errors import RateLimited
from safevideo_common.resilience.token_bucket import Clock, TokenBucket, TokenBuckets

CHEAP_BYTES: Final = 8 * 1024
"""Hashed in about 5 µs; a response costs ten times as much."""

LARGEST_BYTES: Final = 1 << 20
"""Minimum burst for large bodies: with less, a body of this size would never pass."""


class SignatureFailureLimiter:
    """Token buckets of one process: one for each client address, and one for all together."""

    def __init__(
        self,
        *,
        burst: int,
        per_minute: int,
        total_per_second: int,
        large_bytes_per_second: int,
        connections_per_second: int,
        max_addresses: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        """`burst` and `per_minute` are failures of one address; the other rates are of all addresses together."""
        self._failures = TokenBuckets(burst, per_minute / 60, max_addresses)
        self._all_failures = TokenBucket(total_per_second, total_per_second)
        self._large_bytes = TokenBucket(max(large_bytes_per_second, LARGEST_BYTES), large_bytes_per_second)
        self._connections = TokenBucket(connections_per_second, connections_per_second)
        self._clock = clock

    def admit_large_body(self, address: str, size: int) -> None:
        """Raise `RateLimited` for a body over `CHEAP_BYTES` of a throttled client if the rate is exceeded."""
        now = self._clock()
        missing = self._failures.missing_seconds(address, now)
        if missing > 0 and not self._large_bytes.take(now, size):
            raise _rate_limited(missing)

    def admits_connection(self, address: str) -> bool:
        """Return True if a new connection from this address is accepted."""
        now = self._clock()
        return self._failures.missing_seconds(address, now) <= 0 or self._connections.take(now)

    def record_failure(self, address: str) -> RateLimited | None:
        """Record an invalid signature. Return the error for a throttled client, or None."""
        now = self._clock()
        failures = self._failures.get(address)
        if failures.take(now) and self._all_failures.take(now):
            return None
        return _rate_limited(max(failures.missing_seconds(now), self._all_failures.missing_seconds(now)))


class Tarpit:
    """A delay for at most `places` responses at a time. Without a free place a response is not delayed."""

    def __init__(self, *, places: int, seconds: float) -> None:
        self._places = places
        self._seconds = seconds

    async def delay(self) -> None:
        """Return when the response may be sent."""
        if self._places <= 0:
            return
        self._places -= 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._places += 1


def _rate_limited(seconds: float) -> RateLimited:
    return RateLimited("Too many invalid signatures from this address.", retry_after=max(1, math.ceil(seconds)))
