"""Services of commands that use Redis besides the database. Most commands do not, and start faster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic import SecretStr

from safevideo_cli.environment import open_database
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.protections.service import FlagService, ProtectionService
from safevideo_common.protections.store import SHAREGRAM
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.resilience.feature_flags import FLAGS_DB, FlagStore
from safevideo_common.settings import ProcessSettings, load_settings

REDIS_SECONDS: Final = 2.0


class RedisSettings(ProcessSettings):
    """Settings of a command that also tells the services by Redis."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379")
    redis_recovery_db: int = 3


@asynccontextmanager
async def open_protections() -> AsyncIterator[ProtectionService]:
    """Open the database and Redis, and yield what operators do with breakers and fallback mode."""
    settings = load_settings(RedisSettings)
    url, number = settings.redis_url.get_secret_value(), settings.redis_recovery_db
    async with open_database() as database, open_redis(url, number, seconds=REDIS_SECONDS) as redis:
        shared = SharedBreakerState(FailFastRedis(redis, seconds=REDIS_SECONDS), SHAREGRAM, BreakerPolicy())
        yield ProtectionService(database, {SHAREGRAM: shared}, utc_now)


@asynccontextmanager
async def open_flags() -> AsyncIterator[FlagService]:
    """Open the database and Redis, and yield what operators do with feature flags."""
    url = load_settings(RedisSettings).redis_url.get_secret_value()
    async with open_database() as database, open_redis(url, FLAGS_DB, seconds=REDIS_SECONDS) as redis:
        yield FlagService(database, FlagStore(FailFastRedis(redis, seconds=REDIS_SECONDS)), utc_now)
