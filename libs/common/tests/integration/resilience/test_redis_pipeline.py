"""Commands of concurrent callers share round trips, and neither answers nor errors."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.redis_pipeline import RedisPipeline
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import DEADLINE_SECONDS


@pytest.fixture
def pipeline(redis: Redis) -> RedisPipeline:
    return RedisPipeline(redis, seconds=DEADLINE_SECONDS)


async def test_each_caller_gets_its_own_answer_in_few_round_trips(pipeline: RedisPipeline, redis: Redis) -> None:
    await asyncio.gather(*(pipeline.run("SET", f"key:{number}", number) for number in range(300)))
    before = (await redis.info("stats"))["total_reads_processed"]
    answers = await asyncio.gather(*(pipeline.run("GET", f"key:{number}") for number in range(300)))
    assert answers == [str(number).encode() for number in range(300)]
    assert (await redis.info("stats"))["total_reads_processed"] - before < 100


async def test_error_of_a_command_is_its_own(pipeline: RedisPipeline) -> None:
    await pipeline.run("SET", "key", "text")
    answers = await asyncio.gather(
        *(pipeline.run(*command) for command in (("GET", "key"), ("INCR", "key"), ("LPOP", "key"), ("GET", "key"))),
        return_exceptions=True,
    )
    assert [type(each) for each in answers] == [bytes, ResponseError, ResponseError, bytes]


async def test_cancelled_caller_takes_nothing_from_the_others(pipeline: RedisPipeline) -> None:
    await pipeline.run("SET", "key", "text")
    tasks = [asyncio.create_task(pipeline.run("GET", "key")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1::2] == [b"text"] * 10
    assert all(isinstance(each, asyncio.CancelledError | bytes) for each in answers[::2])
    assert await pipeline.run("GET", "key") == b"text"


async def test_hanging_redis_fails_all_who_wait_and_the_next_command_works(
    redis_url: str, redis_server: RunningServer
) -> None:
    async with open_redis(redis_url, 3, seconds=DEADLINE_SECONDS) as redis:
        pipeline = RedisPipeline(redis, seconds=0.05)
        with redis_server.paused():
            failed = await asyncio.gather(*(pipeline.run("PING") for _ in range(250)), return_exceptions=True)
        assert all(isinstance(each, RedisError | OSError) for each in failed)
        patient = RedisPipeline(redis, seconds=DEADLINE_SECONDS)
        assert await asyncio.gather(*(patient.run("ECHO", str(number)) for number in range(30))) == [
            str(number).encode() for number in range(30)
        ]
