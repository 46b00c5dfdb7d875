"""One examination for many callers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.health.checks import FRESH_SECONDS, CachedHealthCheck, CheckResult, CheckStatus, HealthCheck, Overall
from safevideo_common.clock import utc_now


class Questioned:
    """A part that counts how often it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_cancelled = False

    async def ask(self) -> CheckResult:
        self.asked += 1
        self.is_asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return CheckResult(CheckStatus.HEALTHY, "answers")


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def part() -> Questioned:
    return Questioned()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def examination(part: Questioned, seconds: Seconds) -> AsyncIterator[CachedHealthCheck]:
    async with CachedHealthCheck([HealthCheck("database", 60, part.ask)], utc_now, seconds=seconds) as examination:
        yield examination


async def test_callers_at_one_time_share_one_question(examination: CachedHealthCheck, part: Questioned) -> None:
    first, second = await asyncio.gather(examination.latest(), examination.latest())
    assert first is second
    assert first.state is Overall.HEALTHY
    assert part.asked == 1


async def test_a_result_is_given_out_until_it_is_stale(
    examination: CachedHealthCheck, part: Questioned, seconds: Seconds
) -> None:
    first = await examination.latest()
    seconds.now = FRESH_SECONDS - 0.01
    assert await examination.latest() is first
    seconds.now = FRESH_SECONDS
    assert await examination.latest() is not first
    assert part.asked == 2


async def test_a_slow_question_is_not_asked_again_beside_itself(
    examination: CachedHealthCheck, part: Questioned, seconds: Seconds
) -> None:
    part.may_answer.clear()
    first = asyncio.create_task(examination.latest())
    second = asyncio.create_task(examination.latest())
    seconds.now = 10 * FRESH_SECONDS
    await part.is_asked.wait()
    part.may_answer.set()
    assert await first is await second
    assert part.asked == 1


async def test_a_caller_who_gives_up_leaves_the_question_to_the_others(
    examination: CachedHealthCheck, part: Questioned
) -> None:
    part.may_answer.clear()
    leaving = asyncio.create_task(examination.latest())
    staying = asyncio.create_task(examination.latest())
    await part.is_asked.wait()
    leaving.cancel()
    part.may_answer.set()
    assert (await staying).state is Overall.HEALTHY


async def test_leaving_ends_a_question_that_hangs(part: Questioned) -> None:
    part.may_answer.clear()
    async with CachedHealthCheck([HealthCheck("database", 60, part.ask)], utc_now) as examination:
        waiting = asyncio.create_task(examination.latest())
        await part.is_asked.wait()
    assert part.was_cancelled
    with pytest.raises(asyncio.CancelledError):
        await waiting
