"""Rate limits that all replicas share: token buckets in Redis, one script a decision. Without Redis, local buckets.

    limiter = RateLimiter(FailFastRedis(redis), prefix="ratelimit")
    decision = await limiter.take("kyc:user:7", Rate(burst=5, per_second=5 / 3600))

All times are those of Redis, so the clocks of replicas do not matter. A clock that is set back refills nothing twice.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final, NamedTuple

from safevideo_common.resilience.fail_fast_redis import FailFastRedis, RedisUnavailable
from safevideo_common.resilience.token_bucket import TokenBuckets

MAX_PAUSE_SECONDS: Final = 300
"""The longest time for which a bucket is paused, whatever was requested."""
MAX_LOCAL_KEYS: Final = 10_000
"""Local buckets of each rate; the least recently used are forgotten."""

_TAKE: Final = """
-- KEYS[1]: the bucket, a hash of `tokens`, `at` (of the last refill) and `paused_until`, in seconds since the epoch.
-- ARGV: burst, tokens a second, tokens to take, longest pause. A rejection writes nothing.
-- Returns: taken or not, whole tokens left, milliseconds until the tokens are there, milliseconds until it is full.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local burst, per_second, cost, max_pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'paused_until')
local passed = math.max(0, now - (tonumber(state[2]) or now))
local tokens = math.min(burst, (tonumber(state[1]) or burst) + passed * per_second)
local pause = math.min(max_pause, math.max(0, (tonumber(state[3]) or 0) - now))
local is_taken = pause == 0 and tokens >= cost
if is_taken then
  tokens = tokens - cost
  -- %.6f, since Lua would write a time with 14 digits: with a tenth of a millisecond
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / per_second * 1000) + 1000)
end
local wait = is_taken and 0 or math.max(pause, (cost - tokens) / per_second)
return {is_taken and 1 or 0, math.floor(tokens), math.ceil(wait * 1000),
        math.ceil(math.max(pause, (burst - tokens) / per_second) * 1000)}
"""

_PAUSE: Final = """
-- KEYS[1]: the bucket. ARGV: seconds. A longer pause is not shortened, unless the clock was set back.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local old = (tonumber(redis.call('HGET', KEYS[1], 'paused_until')) or 0) - now
local pause = math.max(tonumber(ARGV[1]), old <= tonumber(ARGV[2]) and old or 0)
redis.call('HSET', KEYS[1], 'paused_until', string.format('%.6f', now + pause))
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), math.ceil(pause * 1000) + 1000))
"""


class Rate(NamedTuple):
    """A rate limit: `burst` at once, and `per_second` in the long run."""

    burst: float
    per_second: float


class RateDecision(NamedTuple):
    """The result of `RateLimiter.take`. Times are in seconds."""

    allowed: bool
    remaining: int
    """Whole tokens that are left."""
    retry_after: float
    """Until the tokens are there; 0 if they were taken."""
    reset_after: float
    """Until the bucket is full."""
    is_shared: bool
    """False if Redis was unavailable and this process decided by its share."""


class RateLimiter:
    """Token buckets by key, shared through Redis. While Redis is unavailable each process takes its share of the rate.

    A key may have any characters, and is part of the name of the Redis key: it holds no secret and no personal data.
    """

    def __init__(
        self,
        redis: FailFastRedis,
        *,
        prefix: str,
        processes: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`processes` returns the last known number of processes that share the buckets."""
        self._prefix = prefix
        self._processes = processes
        self._clock = clock
        self._take = redis.script(_TAKE)
        self._pause = redis.script(_PAUSE)
        self._local: dict[Rate, TokenBuckets] = {}
        self._paused_until: dict[str, float] = {}

    async def take(self, key: str, rate: Rate, tokens: float = 1) -> RateDecision:
        """Take tokens of the bucket of `key`, or none. One round trip. Never raises for Redis."""
        arguments = (rate.burst, rate.per_second, tokens, MAX_PAUSE_SECONDS)
        if self._paused_until.get(key, 0.0) > self._clock():
            return self._take_locally(key, rate, tokens)
        try:
            answer = await self._take.run(self._name(key), arguments)
        except RedisUnavailable:
            return self._take_locally(key, rate, tokens)
        is_taken, remaining, wait, reset = (int(number) for number in answer)
        return RateDecision(bool(is_taken), remaining, wait / 1000, reset / 1000, is_shared=True)

    async def pause(self, key: str, seconds: float) -> None:
        """Refuse all tokens of `key`, in every process, for at most `MAX_PAUSE_SECONDS`. Never raises for Redis."""
        seconds = self.pause_locally(key, seconds)
        try:
            await self._pause.run(self._name(key), (seconds, MAX_PAUSE_SECONDS))
        except RedisUnavailable:
            return  # this process knows it; the others learn it from Sharegram

    def pause_locally(self, key: str, seconds: float) -> float:
        """Refuse all tokens of `key` in this process. Return the seconds, capped."""
        seconds = min(max(seconds, 0.0), MAX_PAUSE_SECONDS)
        now = self._clock()
        self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
        self._paused_until[key] = max(self._paused_until.get(key, 0.0), now + seconds)
        return seconds

    def _name(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    def _take_locally(self, key: str, rate: Rate, tokens: float) -> RateDecision:
        now, processes = self._clock(), max(1, self._processes())
        share = Rate(max(tokens, rate.burst / processes), rate.per_second / processes)
        if share not in self._local:
            self._local[share] = TokenBuckets(share.burst, share.per_second, MAX_LOCAL_KEYS)
        bucket = self._local[share].get(key)
        pause = self._paused_until.get(key, 0.0) - now
        allowed = pause <= 0 and bucket.take(now, tokens)
        available = bucket.available(now)
        wait = 0.0 if allowed else max(pause, (tokens - available) / share.per_second)
        reset = max(pause, (share.burst - available) / share.per_second, 0.0)
        return RateDecision(allowed, int(available), ceil(wait * 1000) / 1000, reset, is_shared=False)


class RateBudget:
    """A bucket of a limiter for the calls to one dependency, and pauses that the dependency asked for."""

    def __init__(self, limiter: RateLimiter, key: str, rate: Rate) -> None:
        self._limiter = limiter
        self._key = key
        self._rate = rate
        self._pause = 0.0
        self._wake = asyncio.Event()

    async def take(self) -> float:
        """Take a token and return 0. Without a token, return the seconds until there is one and take nothing."""
        decision = await self._limiter.take(self._key, self._rate)
        return 0.0 if decision.allowed else decision.retry_after

    def hold(self, seconds: float) -> None:
        """Stop giving tokens for `seconds`: here at once, in the other processes when `run` has sent it."""
        self._limiter.pause_locally(self._key, seconds)
        self._pause = max(self._pause, seconds)
        self._wake.set()

    async def run(self) -> None:
        """Send pauses to the other processes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pause, self._pause = self._pause, 0.0
            await self._limiter.pause(self._key, pause)
