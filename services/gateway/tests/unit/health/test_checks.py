"""Health checks: the status of the whole, failures of a check, one run for many callers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.health.checks import (
    CACHE_SECONDS,
    CRITICAL,
    CachedHealthCheck,
    CheckResult,
    CheckStatus,
    IntegrationCheck,
    Overall,
    TimedResult,
    memory_result,
    overall,
    run_checks,
)
from safevideo_common.clock import utc_now
from safevideo_common.errors import DatabaseUnavailable

MIB = 1 << 20


def results(**states: CheckStatus) -> list[TimedResult]:
    return [TimedResult(name, CheckResult(state, "as is"), 1.0) for name, state in states.items()]


@pytest.mark.parametrize(
    ("database", "redis", "whole"),
    [
        (CheckStatus.HEALTHY, CheckStatus.HEALTHY, Overall.HEALTHY),
        (CheckStatus.HEALTHY, CheckStatus.WARNING, Overall.HEALTHY),
        (CheckStatus.HEALTHY, CheckStatus.UNHEALTHY, Overall.DEGRADED),
        (CheckStatus.UNHEALTHY, CheckStatus.HEALTHY, Overall.UNHEALTHY),
        (CheckStatus.UNHEALTHY, CheckStatus.UNHEALTHY, Overall.UNHEALTHY),
    ],
)
def test_overall_is_unhealthy_without_the_database_and_degraded_without_another_component(
    database: CheckStatus, redis: CheckStatus, whole: Overall
) -> None:
    assert CRITICAL == "database"
    assert overall(results(database=database, redis=redis)) is whole


async def test_checks_run_concurrently_with_own_timeouts() -> None:
    both_started = asyncio.Barrier(2)

    async def waits_for_the_other() -> CheckResult:
        await both_started.wait()
        return CheckResult(CheckStatus.HEALTHY, "answers")

    async def hangs() -> CheckResult:
        await asyncio.Event().wait()
        raise AssertionError

    parts = [
        IntegrationCheck("a", 5, waits_for_the_other),
        IntegrationCheck("b", 0.05, hangs),
        IntegrationCheck("c", 5, waits_for_the_other),
    ]
    a, b, c = await run_checks(parts)
    assert (a.result.status, c.result.status) == (CheckStatus.HEALTHY, CheckStatus.HEALTHY)
    assert b.result == CheckResult(CheckStatus.UNHEALTHY, "no answer within 0.05 s")
    assert b.milliseconds >= 50


async def test_failed_check_shows_only_public_text() -> None:
    async def our_error() -> CheckResult:
        raise DatabaseUnavailable("the database did not answer in time")

    async def foreign_error() -> CheckResult:
        raise ConnectionRefusedError("redis://user:password@10.0.0.1 refused")

    ours, foreign = await run_checks([IntegrationCheck("a", 5, our_error), IntegrationCheck("b", 5, foreign_error)])
    assert ours.result == CheckResult(CheckStatus.UNHEALTHY, "the database did not answer in time")
    assert foreign.result == CheckResult(CheckStatus.UNHEALTHY, "no answer (ConnectionRefusedError)")


@pytest.mark.parametrize(
    ("resident", "state"),
    [
        (200 * MIB, CheckStatus.HEALTHY),
        (950 * MIB, CheckStatus.WARNING),
        (1024 * MIB + 1, CheckStatus.UNHEALTHY),
        (None, CheckStatus.WARNING),
    ],
)
def test_memory_check_warns_near_the_limit_and_fails_over_it(resident: int | None, state: CheckStatus) -> None:
    assert memory_result(resident, 1024 * MIB).status is state


class CountedProbe:
    """A probe that counts its calls and answers once it is allowed to."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_cancelled = False

    async def __call__(self) -> CheckResult:
        self.calls += 1
        self.called.set()
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
def probe() -> CountedProbe:
    return CountedProbe()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def checks(probe: CountedProbe, seconds: Seconds) -> AsyncIterator[CachedHealthCheck]:
    async with CachedHealthCheck([IntegrationCheck("database", 60, probe)], utc_now, seconds=seconds) as checks:
        yield checks


async def test_concurrent_callers_share_one_run(checks: CachedHealthCheck, probe: CountedProbe) -> None:
    first, second = await asyncio.gather(checks.latest(), checks.latest())
    assert first is second
    assert first.status is Overall.HEALTHY
    assert probe.calls == 1


async def test_report_is_reused_until_it_expires(
    checks: CachedHealthCheck, probe: CountedProbe, seconds: Seconds
) -> None:
    first = await checks.latest()
    seconds.now = CACHE_SECONDS - 0.01
    assert await checks.latest() is first
    seconds.now = CACHE_SECONDS
    assert await checks.latest() is not first
    assert probe.calls == 2


async def test_slow_run_is_not_started_twice(checks: CachedHealthCheck, probe: CountedProbe, seconds: Seconds) -> None:
    probe.may_answer.clear()
    first = asyncio.create_task(checks.latest())
    second = asyncio.create_task(checks.latest())
    seconds.now = 10 * CACHE_SECONDS
    await probe.called.wait()
    probe.may_answer.set()
    assert await first is await second
    assert probe.calls == 1


async def test_run_continues_when_a_caller_is_cancelled(checks: CachedHealthCheck, probe: CountedProbe) -> None:
    probe.may_answer.clear()
    leaving = asyncio.create_task(checks.latest())
    staying = asyncio.create_task(checks.latest())
    await probe.called.wait()
    leaving.cancel()
    probe.may_answer.set()
    assert (await staying).status is Overall.HEALTHY


async def test_end_of_the_context_cancels_a_hanging_run(probe: CountedProbe) -> None:
    probe.may_answer.clear()
    async with CachedHealthCheck([IntegrationCheck("database", 60, probe)], utc_now) as checks:
        waiting = asyncio.create_task(checks.latest())
        await probe.called.wait()
    assert probe.was_cancelled
    with pytest.raises(asyncio.CancelledError):
        await waiting
