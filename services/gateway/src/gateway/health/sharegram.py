"""The health of Sharegram as a background result: one gateway of the fleet asks, all show its answer and its age.

In Redis, database 0:

    health:sharegram:lease     a lease for `PROBE_INTERVAL`; its holder asks
    health:sharegram           the last result, for `RESULT_SECONDS`

Without Redis each gateway asks by itself, as seldom. The breaker does not hear of these calls. Nobody asks in fallback
mode, or while the integration is switched off.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Final

import msgspec
from redis.asyncio import Redis

from gateway.health.checks import CheckResult, CheckStatus
from safevideo_common.clock import rfc3339
from safevideo_common.errors import SafeVideoError
from safevideo_common.protections.runtime import Protections
from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.fail_fast_redis import FailFastRedis, RedisUnavailable
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.operations import HEALTH_SECONDS, SharegramCaller

LEASE_KEY: Final = "health:sharegram:lease"
RESULT_KEY: Final = "health:sharegram"

PROBE_INTERVAL: Final = 10.0
"""Between two calls of the whole fleet."""
POLL_SECONDS: Final = 2.0
RESULT_SECONDS: Final = 60.0
DEADLINE_SECONDS: Final = HEALTH_SECONDS + 1
"""The time for one call, with its wait for a connection."""


class _Stored(msgspec.Struct, frozen=True):
    status: CheckStatus
    message: str
    milliseconds: float


class SharegramHealthProbe:
    """Keeps the last result of the fleet. `client` is None if Sharegram's address is not configured."""

    def __init__(
        self,
        client: SharegramClient | None,
        redis: FailFastRedis,
        protections: Protections,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._redis = redis
        self._protections = protections
        self._clock = clock
        self._is_known = asyncio.Event()
        self._result: _Stored | None = None
        self._measured_at = 0.0
        self._probed_at: float | None = None

    async def latest(self) -> CheckResult:
        """Return the last result with its age. Only the first of the process waits, until there is one."""
        if (skipped := self._reason_to_skip()) is not None:
            return skipped
        await self._is_known.wait()
        assert self._result is not None
        result, age = self._result, max(0.0, self._clock() - self._measured_at)
        return CheckResult(result.status, result.message, result.milliseconds, age)

    async def run(self) -> None:
        """Keep the result fresh until cancelled."""
        while True:
            if self._reason_to_skip() is None:
                await self.refresh()
            await asyncio.sleep(jittered(POLL_SECONDS))

    async def refresh(self) -> None:
        """Ask Sharegram if nobody has within `PROBE_INTERVAL`; otherwise takes over the last result."""
        try:
            redis = self._redis.redis
            milliseconds = int(PROBE_INTERVAL * 1000)
            is_ours = await self._redis.call(lambda: redis.set(LEASE_KEY, "1", nx=True, px=milliseconds))
            if not is_ours:
                await self._take_over(redis)
                return
        except RedisUnavailable:
            if self._probed_at is not None and self._clock() - self._probed_at < PROBE_INTERVAL:
                return
        await self._probe()

    def _reason_to_skip(self) -> CheckResult | None:
        if self._client is None:
            return CheckResult(CheckStatus.WARNING, "not configured")
        if self._protections.integration.is_switched_off:
            return CheckResult(CheckStatus.WARNING, "not asked: the integration is switched off")
        if until := self._protections.fallback.until():
            return CheckResult(CheckStatus.WARNING, f"not asked: fallback mode is on until {rfc3339(until)}")
        return None

    async def _probe(self) -> None:
        assert self._client is not None
        self._probed_at, started = self._clock(), perf_counter()
        status, message = CheckStatus.HEALTHY, "answers"
        try:
            await self._client.health(SharegramCaller.api(seconds=DEADLINE_SECONDS))
        except SafeVideoError as error:
            status, message = CheckStatus.UNHEALTHY, error.message
        result = _Stored(status, message, (perf_counter() - started) * 1000)
        self._keep(result, 0.0)
        encoded, lifetime = msgspec.json.encode(result), int(RESULT_SECONDS * 1000)
        try:
            await self._redis.call(lambda: self._redis.redis.set(RESULT_KEY, encoded, px=lifetime))
        except RedisUnavailable:
            return  # the others ask by themselves as well

    async def _take_over(self, redis: "Redis") -> None:
        """Take over the shared result. Its age follows from its remaining life, so no two clocks are compared."""
        pipeline = redis.pipeline()
        _ = pipeline.get(RESULT_KEY)
        _ = pipeline.pttl(RESULT_KEY)
        encoded, left = await self._redis.call(pipeline.execute)
        if encoded is None:
            return  # the first call of the fleet is on its way
        try:
            result = msgspec.json.decode(encoded, type=_Stored)
        except msgspec.DecodeError:
            return
        self._keep(result, RESULT_SECONDS - left / 1000)

    def _keep(self, result: _Stored, age: float) -> None:
        self._result, self._measured_at = result, self._clock() - age
        self._is_known.set()
