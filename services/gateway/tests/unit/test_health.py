"""What the parts' states make of the whole, and what asking a part can come to."""

import asyncio

import pytest

from gateway.health.checks import (
    CRITICAL,
    CheckResult,
    CheckStatus,
    HealthCheck,
    Overall,
    TimedResult,
    memory_finding,
    overall,
    run_checks,
)
from safevideo_common.errors import DatabaseUnavailable

MIB = 1 << 20


def examined(**states: CheckStatus) -> list[TimedResult]:
    return [TimedResult(name, CheckResult(state, "as found"), 1.0) for name, state in states.items()]


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
def test_the_whole_stands_with_the_database_and_limps_without_another_part(
    database: CheckStatus, redis: CheckStatus, whole: Overall
) -> None:
    assert CRITICAL == "database"
    assert overall(examined(database=database, redis=redis)) is whole


async def test_parts_are_asked_side_by_side_and_each_has_its_own_time() -> None:
    both_are_asked = asyncio.Barrier(2)

    async def waits_for_the_other() -> CheckResult:
        await both_are_asked.wait()
        return CheckResult(CheckStatus.HEALTHY, "answers")

    async def hangs() -> CheckResult:
        await asyncio.Event().wait()
        raise AssertionError

    parts = [
        HealthCheck("a", 5, waits_for_the_other),
        HealthCheck("b", 0.05, hangs),
        HealthCheck("c", 5, waits_for_the_other),
    ]
    a, b, c = await run_checks(parts)
    assert (a.finding.state, c.finding.state) == (CheckStatus.HEALTHY, CheckStatus.HEALTHY)
    assert b.finding == CheckResult(CheckStatus.UNHEALTHY, "no answer within 0.05 s")
    assert b.milliseconds >= 50


async def test_a_part_that_raises_tells_no_more_than_may_be_public() -> None:
    async def our_error() -> CheckResult:
        raise DatabaseUnavailable("the database did not answer in time")

    async def foreign_error() -> CheckResult:
        raise ConnectionRefusedError("redis://user:password@10.0.0.1 refused")

    ours, foreign = await run_checks([HealthCheck("a", 5, our_error), HealthCheck("b", 5, foreign_error)])
    assert ours.finding == CheckResult(CheckStatus.UNHEALTHY, "the database did not answer in time")
    assert foreign.finding == CheckResult(CheckStatus.UNHEALTHY, "no answer (ConnectionRefusedError)")


@pytest.mark.parametrize(
    ("resident", "state"),
    [
        (200 * MIB, CheckStatus.HEALTHY),
        (950 * MIB, CheckStatus.WARNING),
        (1024 * MIB + 1, CheckStatus.UNHEALTHY),
        (None, CheckStatus.WARNING),
    ],
)
def test_memory_warns_near_its_limit_and_fails_over_it(resident: int | None, state: CheckStatus) -> None:
    assert memory_finding(resident, 1024 * MIB).state is state
