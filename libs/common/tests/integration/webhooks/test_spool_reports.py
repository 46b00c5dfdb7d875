"""Reports of spools: added up, replaced, orphaned with their process, and forgotten."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.webhooks.spool_reports import REPORT_SECONDS, Depth, OrphanedSpool, SpoolReport, SpoolReports
from safevideo_testkit.eventually import DEADLINE_SECONDS

NOW = 1000.0


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, 0, seconds=DEADLINE_SECONDS) as redis:
        yield redis


@pytest.fixture
def reports(redis: Redis) -> SpoolReports:
    return SpoolReports(FailFastRedis(redis, seconds=DEADLINE_SECONDS), lambda: NOW)


async def _die(redis: Redis, process: str) -> None:
    """Let the mark of a process that lives expire, as after its time."""
    assert 0 < await redis.ttl(f"webhooks:spool:{process}") <= REPORT_SECONDS
    await redis.delete(f"webhooks:spool:{process}")


async def test_reports_of_all_processes_that_live_are_added_up(reports: SpoolReports) -> None:
    assert await reports.summarize() == (0, Depth(0, 0.0), [])
    for process, report in (
        ("a", SpoolReport("x", 9, NOW - 1)),
        ("a", SpoolReport("x", 3, NOW - 2.5)),
        ("b", SpoolReport("y", 4, NOW - 60)),
    ):
        await reports.write(process, report)
    assert await reports.summarize() == (2, Depth(7, 60.0), [])
    await reports.write_last("a", SpoolReport("x", 0, 0.0), is_disk_empty=True)
    assert await reports.summarize() == (1, Depth(4, 60.0), [])


async def test_events_of_a_dead_process_are_orphaned_until_another_has_its_disk(
    reports: SpoolReports, redis: Redis
) -> None:
    await reports.write("killed", SpoolReport("x", 5, NOW - 9))
    await reports.write("empty", SpoolReport("z", 0, 0.0))
    await _die(redis, "killed")
    await _die(redis, "empty")
    await reports.write_last("stopped", SpoolReport("y", 2, NOW - 3), is_disk_empty=False)
    both = [OrphanedSpool("killed", 5, 9.0), OrphanedSpool("stopped", 2, 3.0)]
    assert await reports.summarize() == (0, Depth(0, 0.0), both)
    await reports.write("successor", SpoolReport("x", 5, NOW - 9))
    assert await reports.summarize() == (1, Depth(5, 9.0), both[1:])
    await _die(redis, "successor")
    assert (await reports.summarize()).orphaned == [both[1], OrphanedSpool("successor", 5, 9.0)]


async def test_process_that_leaves_its_disk_empty_ends_the_reports_of_those_before(
    reports: SpoolReports, redis: Redis
) -> None:
    await reports.write("killed", SpoolReport("x", 5, NOW - 9))
    await _die(redis, "killed")
    await reports.write("delivery", SpoolReport("x", 5, NOW - 9))
    await reports.write_last("delivery", SpoolReport("x", 0, 0.0), is_disk_empty=True)
    assert await reports.summarize() == (0, Depth(0, 0.0), [])


async def test_events_of_a_process_that_died_are_counted_until_another_has_taken_its_directory(
    reports: SpoolReports, redis: Redis
) -> None:
    """Two processes of one disk die one after the other. The second had not looked for the first one's events yet."""
    await reports.write("first", SpoolReport("x", 5, NOW - 9, ("dir-1",)))
    await reports.write("second", SpoolReport("x", 2, NOW - 3, ("dir-2",)))
    await _die(redis, "first")
    assert await reports.summarize() == (1, Depth(7, 9.0), [])
    await _die(redis, "second")
    both = [OrphanedSpool("first", 5, 9.0), OrphanedSpool("second", 2, 3.0)]
    assert await reports.summarize() == (0, Depth(0, 0.0), both)

    await reports.write("third", SpoolReport("x", 0, 0.0))
    assert await reports.summarize() == (1, Depth(7, 9.0), [])
    assert set(await reports.dead_of("x")) == {"first", "second"}
    assert set(await reports.dead_of("another")) == set()
    await reports.write("third", SpoolReport("x", 5, NOW - 9, ("dir-1",)), instead_of={"first"})
    assert await reports.summarize() == (1, Depth(7, 9.0), [])
    await reports.write_last("third", SpoolReport("x", 7, NOW - 9, ("dir-1", "dir-2")), instead_of={"second"})
    assert await reports.summarize() == (0, Depth(0, 0.0), [OrphanedSpool("third", 7, 9.0)])


async def test_only_an_orphaned_spool_can_be_forgotten(reports: SpoolReports) -> None:
    await reports.write("alive", SpoolReport("x", 5, NOW))
    await reports.write_last("gone", SpoolReport("y", 2, NOW), is_disk_empty=False)
    assert [await reports.forget(each) for each in ("alive", "gone", "gone", "unknown")] == [False, True, False, False]
    assert await reports.summarize() == (1, Depth(5, 0.0), [])
