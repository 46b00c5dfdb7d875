"""What the model has found: each is the shortest sequence that showed it, and how it ends now."""

import pytest

from safevideo_testkit.people_model import acts
from safevideo_testkit.people_model.acts import Act
from safevideo_testkit.people_model.catalogue import CATALOGUE, do
from safevideo_testkit.people_model.checks import check
from safevideo_testkit.people_model.runs import Runner
from safevideo_testkit.people_model.stage import Stage, set_up
from safevideo_testkit.people_model.world import World

NAMED = {each.name: each for each in CATALOGUE}


@pytest.fixture
async def stage(world: World) -> Stage:
    return await set_up(world)


async def _done(stage: Stage, *done: Act) -> list[str]:
    for act in done:
        await do(stage, act)
    wrong, _ = await check(stage, None)
    return wrong


async def test_two_erasure_jobs_at_once_record_one_erasure(world: World) -> None:
    runner, job = Runner(world), NAMED["erasure job of an order"]
    await runner.pair(job, job, lambda number: number in (60, 90))
    assert runner.report.interleavings == 2
    assert runner.report.found == []


@pytest.mark.parametrize("primary", ["ben", "cid"])
async def test_first_sign_in_by_email_to_a_merged_import_makes_no_other_account(stage: Stage, primary: str) -> None:
    assert await _done(stage, acts.merge(primary, "eve"), acts.signs_in("eve")) == []
    assert await _done(stage, acts.unmerge("eve"), acts.signs_in("eve")) == []
