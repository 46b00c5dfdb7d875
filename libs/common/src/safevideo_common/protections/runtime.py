"""The protections around calls to Sharegram, beside a service's app."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.encryption import Purpose
from safevideo_common.errors import FeatureDisabled
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.protections.integration import SharegramIntegration
from safevideo_common.protections.settings import ProtectionSettings
from safevideo_common.protections.store import SHAREGRAM
from safevideo_common.protections.watcher import FallbackMode, OverrideWatcher
from safevideo_common.resilience.breaker.breaker import BreakerState, CircuitBreaker
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import COMMAND_SECONDS, FailFastRedis
from safevideo_common.resilience.feature_flags import FLAGS, FLAGS_DB, KYC, PERFORMER_SYNC, SSO, FeatureFlags, FlagStore
from safevideo_common.resilience.rate_limiter import Rate, RateBudget, RateLimiter
from safevideo_common.service import background_task
from safevideo_common.sharegram.client import CallProtections
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

_STATE_NUMBERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True)
class Protections:
    """All that a process consults before it calls Sharegram, without I/O while nothing is wrong."""

    breaker: CircuitBreaker
    shared_breaker: SharedBreakerState
    fallback: FallbackMode
    budget: RateBudget
    flags: FeatureFlags
    flag_store: FlagStore
    integration: SharegramIntegration
    watcher: OverrideWatcher

    @property
    def around_calls(self) -> CallProtections:
        """Return what the client of Sharegram asks before each call."""
        return CallProtections(self.breaker, self.fallback, self.budget, self.integration.credentials)

    @property
    def is_sso_enabled(self) -> bool:
        """Return whether people may sign in with Sharegram."""
        return self.integration.is_sso_enabled and self.flags.is_enabled(SSO)

    @property
    def is_sync_enabled(self) -> bool:
        """Return whether performers are synced. A sync that is off waits in its queue."""
        return self.flags.is_enabled(PERFORMER_SYNC)

    @property
    def is_kyc_enabled(self) -> bool:
        """Return whether KYC is on, by its feature flag and in the integration."""
        return self.integration.is_kyc_enabled and self.flags.is_enabled(KYC)

    def require_kyc(self) -> None:
        """Raise `FeatureDisabled` if KYC is off."""
        if not self.is_kyc_enabled:
            raise FeatureDisabled("KYC is switched off.")


@asynccontextmanager
async def open_protections(
    settings: ProtectionSettings, database: Database, logger: FilteringBoundLogger, *, seconds: float = COMMAND_SECONDS
) -> AsyncIterator[Protections]:
    """Yield the protections as they are now, for one command. Raises `DatabaseUnavailable`.

    They change only while their tasks run; see `run_protections`. Redis may be unavailable; `seconds` is the deadline
    of each command to it.
    """
    url, policy = settings.redis_url.get_secret_value(), BreakerPolicy()
    async with (
        open_redis(url, settings.redis_recovery_db) as recovery_redis,
        open_redis(url, FLAGS_DB) as flags_redis,
    ):
        redis = FailFastRedis(recovery_redis, seconds=seconds)
        shared = SharedBreakerState(redis, SHAREGRAM, policy)
        breaker = CircuitBreaker(SHAREGRAM, shared, logger, policy)
        fallback = FallbackMode(SHAREGRAM)
        limiter = RateLimiter(redis, prefix="budget", processes=lambda: breaker.processes)
        rate = Rate(settings.sharegram_calls_burst, settings.sharegram_calls_per_second)
        flag_store = FlagStore(FailFastRedis(flags_redis, seconds=seconds))
        flags = FeatureFlags(flag_store, logger)
        keys = settings.encryption_keys()
        integration = SharegramIntegration(
            settings.credentials(),
            settings.sharegram_integration_id,
            keys.cipher(Purpose.SHAREGRAM_CREDENTIALS) if keys else None,
            logger,
            has_address=bool(settings.sharegram_api_url),
        )
        watcher = OverrideWatcher(database, breaker, fallback, integration, utc_now, logger)
        await watcher.load()
        await _connect(recovery_redis, flags_redis)
        await breaker.poll()
        await flags.poll()
        budget = RateBudget(limiter, SHAREGRAM, rate)
        yield Protections(breaker, shared, fallback, budget, flags, flag_store, integration, watcher)
        await breaker.poll()  # what the last calls found out


async def _connect(*databases: Redis) -> None:
    """Connect, which takes longer than a command. A first poll that fails would take what is switched off for on."""
    for redis in databases:
        with suppress(RedisError, OSError), preserve_cancellation(), reset_as_os_error():
            await redis.ping()


@asynccontextmanager
async def run_protections(
    app: web.Application,
    settings: ProtectionSettings,
    database: Database,
    registry: CollectorRegistry,
    logger: FilteringBoundLogger,
) -> AsyncIterator[Protections]:
    """Yield the protections once the decisions of operators are read. Raises `DatabaseUnavailable` if they cannot be.

    The supervisor of `app` has the tasks. Redis may be unavailable.
    """
    async with open_protections(settings, database, logger) as protections, AsyncExitStack() as stack:
        _export(protections.breaker, protections.fallback, protections.flags, registry)
        for name, work in {
            "circuit-breaker": protections.breaker.run,
            "override-watcher": protections.watcher.run,
            "rate-budget": protections.budget.run,
            "feature-flags": protections.flags.run,
        }.items():
            await stack.enter_async_context(background_task(app, name, work))
        yield protections


def _export(breaker: CircuitBreaker, fallback: FallbackMode, flags: FeatureFlags, registry: CollectorRegistry) -> None:
    state = gauge(metric_catalog.BREAKER_STATE, registry).labels(breaker.name)
    state.set_function(lambda: _STATE_NUMBERS[breaker.state])
    changes = counter(metric_catalog.BREAKER_CHANGES, registry)
    for each in BreakerState:
        changes.labels(breaker.name, each.value)
    breaker.changed.append(lambda: changes.labels(breaker.name, breaker.state.value).inc())
    seconds = gauge(metric_catalog.FALLBACK_SECONDS, registry).labels(fallback.provider)
    seconds.set_function(lambda: fallback.seconds_on)
    enabled = gauge(metric_catalog.FEATURE_ENABLED, registry)
    for flag in FLAGS:
        enabled.labels(flag).set_function(partial(flags.is_enabled, flag))
