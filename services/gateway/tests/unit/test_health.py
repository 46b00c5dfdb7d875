"""What the parts' states make of the whole, and what asking a part can come to."""

import asyncio

import pytest

from gateway.adapters.parts import memory_finding
from gateway.handlers.health import VITAL, Examined, Finding, Overall, Part, PartState, examine, overall
from safevideo_common.errors import DatabaseUnavailable

MIB = 1 << 20


def examined(**states: PartState) -> list[Examined]:
    return [Examined(name, Finding(state, "as found"), 1.0) for name, state in states.items()]


@pytest.mark.parametrize(
    ("database", "redis", "whole"),
    [
        (PartState.HEALTHY, PartState.HEALTHY, Overall.HEALTHY),
        (PartState.HEALTHY, PartState.WARNING, Overall.HEALTHY),
        (PartState.HEALTHY, PartState.UNHEALTHY, Overall.DEGRADED),
        (PartState.UNHEALTHY, PartState.HEALTHY, Overall.UNHEALTHY),
        (PartState.UNHEALTHY, PartState.UNHEALTHY, Overall.UNHEALTHY),
    ],
)
def test_the_whole_stands_with_the_database_and_limps_without_another_part(
    database: PartState, redis: PartState, whole: Overall
) -> None:
    assert VITAL == "database"
    assert overall(examined(database=database, redis=redis)) is whole


async def test_parts_are_asked_side_by_side_and_each_has_its_own_time() -> None:
    both_are_asked = asyncio.Barrier(2)

    async def waits_for_the_other() -> Finding:
        await both_are_asked.wait()
        return Finding(PartState.HEALTHY, "answers")

    async def hangs() -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    parts = [Part("a", 5, waits_for_the_other), Part("b", 0.05, hangs), Part("c", 5, waits_for_the_other)]
    a, b, c = await examine(parts)
    assert (a.finding.state, c.finding.state) == (PartState.HEALTHY, PartState.HEALTHY)
    assert b.finding == Finding(PartState.UNHEALTHY, "no answer within 0.05 s")
    assert b.milliseconds >= 50


async def test_a_part_that_raises_tells_no_more_than_may_be_public() -> None:
    async def our_error() -> Finding:
        raise DatabaseUnavailable("the database did not answer in time")

    async def foreign_error() -> Finding:
        raise ConnectionRefusedError("redis://user:password@10.0.0.1 refused")

    ours, foreign = await examine([Part("a", 5, our_error), Part("b", 5, foreign_error)])
    assert ours.finding == Finding(PartState.UNHEALTHY, "the database did not answer in time")
    assert foreign.finding == Finding(PartState.UNHEALTHY, "no answer (ConnectionRefusedError)")


@pytest.mark.parametrize(
    ("resident", "state"),
    [
        (200 * MIB, PartState.HEALTHY),
        (950 * MIB, PartState.WARNING),
        (1024 * MIB + 1, PartState.UNHEALTHY),
        (None, PartState.WARNING),
    ],
)
def test_memory_warns_near_its_limit_and_fails_over_it(resident: int | None, state: PartState) -> None:
    assert memory_finding(resident, 1024 * MIB).state is state
