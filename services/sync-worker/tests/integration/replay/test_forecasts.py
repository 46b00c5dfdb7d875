"""A dry run says what the real one does, and does nothing."""

from random import Random
from typing import Any

import pytest

from safevideo_common.domain.performers import FIELDS
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import PERFORMER, SYNC_WORKER
from safevideo_common.inbox.handler import Delivery
from safevideo_common.replay.dry_run import DryRun
from safevideo_testkit.harness.replay import AT, ReplayHarness, Sent, result_of

ON_THE_WIRE = {"display_name": "displayName", "profile_image": "profileImage"}


def changes(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> dict[str, Any]:
    """What is different, as the result of a dry run has it."""
    found = {}
    for name, row in after.items():
        was = before.get(name) or dict.fromkeys(FIELDS) | {"verified": False, "status": "pending"}
        found[name] = {
            ON_THE_WIRE.get(each, each): {"from": was[each], "to": row[each]}
            for each in FIELDS
            if was[each] != row[each]
        }
    return {name: each for name, each in found.items() if each}


def disordered(bench: ReplayHarness, seed: int, number: int) -> list[Sent]:
    """Patches whose versions come in any order, some of them twice, some of them faulty."""
    random = Random(seed)
    events = []
    for _ in range(number):
        fields: dict[str, Any] = {
            each: random.choice([None, "x", "y", "z"]) for each in random.sample(("username", "bio", "displayName"), 2)
        }
        if random.random() < 0.05:
            fields = {"verified": "perhaps"}
        events.append(bench.event(str(random.randrange(12)), random.randrange(number), **fields))
    return events + random.sample(events, number // 10)


@pytest.mark.parametrize("force", [False, True], ids=["not forced", "forced"])
async def test_a_dry_run_changes_nothing_and_says_what_the_real_one_does(bench: ReplayHarness, force: bool) -> None:
    events = disordered(bench, 7, 200)
    await bench.publish(*events)
    await bench.live()
    await bench.forget(*events[20:150])
    for number in range(0, 12, 2):
        await bench.damage(str(number), username="damaged", bio="long " * 100)
    await bench.delete("3")
    before = await bench.stamped(), await bench.inbox(), await bench.told()
    fields = await bench.rows()
    dry = result_of(await bench.replay(force=force, dryRun=True))
    assert (await bench.stamped(), await bench.inbox(), await bench.told()) == before
    real = result_of(await bench.replay(force=force))
    assert {name: dry[name] for name in ("events", "byType", "byOutcome")} == {
        name: real[name] for name in ("events", "byType", "byOutcome")
    }
    foreseen = {each["performerId"]: each["changes"] for each in dry["performers"]}
    happened = changes(fields, await bench.rows())
    assert foreseen.keys() == happened.keys()
    for name, each in happened.items():
        for pair in each.values():
            if isinstance(pair["from"], str) and len(pair["from"]) > 200:
                pair["from"] = pair["from"][:200] + "…"
        assert foreseen[name] == each
    assert (dry["performersChanging"], dry["isExact"]) == (len(happened), True)


async def test_at_most_a_hundred_performers_are_shown_and_all_are_counted(bench: ReplayHarness) -> None:
    await bench.publish(*(bench.event(str(number), 1, bio="x") for number in range(130)))
    result = result_of(await bench.replay(dryRun=True))
    assert (len(result["performers"]), result["performersChanging"]) == (100, 130)
    assert await bench.rows() == {}


async def test_with_more_performers_than_it_can_carry_a_forecast_says_that_it_is_not_exact(
    bench: ReplayHarness,
) -> None:
    events = [bench.event(str(number % 30), number, bio=str(number)) for number in range(90)]
    deliveries = [
        Delivery(
            Envelope(each.event_id, "performer.profile.updated", AT, each.performer_id),
            each.message().value,
            PERFORMER,
            0,
            place,
            AT,
        )
        for place, each in enumerate(events)
    ]
    forecast = DryRun(bench.handler, SYNC_WORKER, is_forced=False, most_shown=100, most_performers=20)
    async with bench.database.read_connection() as reading:
        for start in range(0, 90, 10):
            assert await forecast.foresee(reading, deliveries[start : start + 10]) == {"applied": 10}
    forecast.finish()
    assert not forecast.is_exact
    assert len(forecast.shown) == 30
    assert forecast.changing >= 30
