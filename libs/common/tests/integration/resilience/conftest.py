"""Redis for the tests of this folder, with a deadline that a busy machine does not reach, and a clock to move."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_testkit.eventually import DEADLINE_SECONDS

RECOVERY_DB = 3


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, RECOVERY_DB, seconds=DEADLINE_SECONDS) as redis:
        yield redis


@pytest.fixture
def patient(redis: Redis) -> FailFastRedis:
    return FailFastRedis(redis, seconds=DEADLINE_SECONDS)
