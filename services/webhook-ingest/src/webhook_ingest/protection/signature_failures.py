"""Who sends signatures that do not hold, and how many more of them are answered in full.

The rule. An address that sends them faster than it may is *suspect* until it has been quiet for a while. Sharegram may
well share an address with a forger (a proxy, a NAT), so being suspect costs a right signature nothing:

- A body of at most `CHEAP_BYTES` is verified whoever sends it: its HMAC costs less than the answer that refuses it.
- Larger bodies of all suspects together may have `share` bytes a second verified; beyond that they get 429 before the
  body is read. One suspect's flood of large bodies can so starve large bodies of suspects, and of nobody else.
- New connections of all suspects together are `connections_per_second`; beyond that they are closed unread. Opening one
  costs more than all else about a forged webhook, and a forger who waits for no answer opens one for each. Those that
  are open are served on.
- A signature that fails is answered 429 instead of 401, and late (`HeldBack`): a forger who waits for answers is slowed
  down, one who does not wait gains nothing. When failures come from everywhere at once, each address is treated so.
"""

import asyncio
import math
import time
from collections import OrderedDict
from typing import Final

from safevideo_common.errors import RateLimited
from safevideo_common.resilience.token_bucket import Clock, TokenBucket

CHEAP_BYTES: Final = 8 * 1024
"""Hashed in about 5 µs; an answer costs ten times as much."""

LARGEST_BYTES: Final = 1 << 20
"""The share's burst is at least so large, else a body of this size would never pass."""


class SignatureFailureLimiter:
    """An allowance for each of the last `addresses` addresses, and one for all together. It lives in this process."""

    def __init__(
        self,
        *,
        burst: int,
        per_minute: int,
        everyone_per_second: int,
        share: int,
        connections_per_second: int,
        addresses: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        """`burst` and `per_minute` are failures of one address, `share` is bytes a second of suspects' large bodies.

        `connections_per_second` is what suspects together may open.
        """
        self._burst = burst
        self._per_second = per_minute / 60
        self._everyone = TokenBucket(everyone_per_second, everyone_per_second)
        self._share = TokenBucket(max(share, LARGEST_BYTES), share)
        self._connections = TokenBucket(connections_per_second, connections_per_second)
        self._addresses = addresses
        self._clock = clock
        self._of: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: str, size: int) -> None:
        """Before a body of over `CHEAP_BYTES` is read. Raises `RateLimited` for a suspect whose share is used up."""
        now = self._clock()
        missing = self._missing_seconds(address, now)
        if missing > 0 and not self._share.take(now, size):
            raise _limited(missing)

    def admits_connection(self, address: str) -> bool:
        """Whether a new connection from there is taken."""
        now = self._clock()
        return self._missing_seconds(address, now) <= 0 or self._connections.take(now)

    def failed(self, address: str) -> RateLimited | None:
        """Note a signature that did not hold; the answer to a suspect, or None for whoever may still be told why."""
        now = self._clock()
        allowance = self._allowance(address)
        if allowance.take(now) and self._everyone.take(now):
            return None
        return _limited(max(allowance.missing_seconds(now), self._everyone.missing_seconds(now)))

    def _missing_seconds(self, address: str, now: float) -> float:
        """Until it is no suspect; 0 or less when it is none."""
        allowance = self._of.get(address)
        return 0 if allowance is None else allowance.missing_seconds(now)

    def _allowance(self, address: str) -> TokenBucket:
        found = self._of.get(address)
        if found is None:
            found = self._of[address] = TokenBucket(self._burst, self._per_second)
            if len(self._of) > self._addresses:
                self._of.popitem(last=False)
        self._of.move_to_end(address)
        return found


def _limited(seconds: float) -> RateLimited:
    return RateLimited("Too many signatures from this address did not hold.", retry_after=max(1, math.ceil(seconds)))


# Answers that a suspect has to wait for.


class Tarpit:
    """Holds back at most `places` answers at a time, each for `seconds`. Whoever finds no place is answered at once."""

    def __init__(self, *, places: int, seconds: float) -> None:
        self._places = places
        self._seconds = seconds

    async def hold(self) -> None:
        """Return when the answer may go out."""
        if self._places <= 0:
            return
        self._places -= 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._places += 1
