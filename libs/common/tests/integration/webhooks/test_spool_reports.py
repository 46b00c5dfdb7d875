"""Reports of spools: added up, replaced, expired, withdrawn."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.webhooks.spool_reports import REPORT_SECONDS, SpoolReport, SpoolReports
from safevideo_testkit.eventually import DEADLINE_SECONDS


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield redis


async def test_reports_of_all_processes_are_added_up_until_they_expire_or_are_withdrawn(redis: Redis) -> None:
    reports = SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS))
    assert await reports.total() == (0, 0, 0.0)
    for process, report in (("a", SpoolReport(9, 1.0)), ("a", SpoolReport(3, 2.5)), ("b", SpoolReport(4, 60.0))):
        await reports.write(process, report)
    assert await reports.total() == (2, 7, 60.0)
    assert 0 < await redis.ttl("webhooks:spool:a") <= REPORT_SECONDS
    await redis.delete("webhooks:spool:b")  # as after its time
    assert await reports.total() == (1, 3, 2.5)
    assert await redis.smembers("webhooks:spools") == {b"webhooks:spool:a"}
    await reports.withdraw("a")
    assert await reports.total() == (0, 0, 0.0)
