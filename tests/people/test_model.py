"""The state machine of people and documents, with a fixed seed and a fresh one."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from secrets import randbits

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.people_model.machine import PeopleMachine
from safevideo_testkit.people_model.world import World, open_world

LONG = os.environ.get("PEOPLE") == "long"
EXAMPLES = int(os.environ.get("PEOPLE_EXAMPLES", "400" if LONG else "5"))
STEPS = 50 if LONG else 20
SEEDS = (31, int(os.environ.get("PEOPLE_SEED", "0")) or randbits(32))


@pytest.fixture
def opened(
    migrated_mysql_database: str, redis_url: str, tmp_path: Path, log: FilteringBoundLogger
) -> Iterator[tuple[World, asyncio.Runner]]:
    with asyncio.Runner() as runner:
        opening = open_world(migrated_mysql_database, redis_url, tmp_path / "documents", log)
        yield runner.run(opening.__aenter__()), runner
        runner.run(opening.__aexit__(None, None, None))


@pytest.mark.parametrize("number", SEEDS, ids=["fixed", "fresh"])
def test_whatever_is_done_with_people_the_model_holds(opened: tuple[World, asyncio.Runner], number: int) -> None:
    world, runner = opened

    class People(PeopleMachine):
        empty = None

    People.world, People.runner = world, runner
    print(f"seed {number}")
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(seed(number)(People), settings=chosen)
    print(f"{People.examples} sequences, {People.steps} steps")
