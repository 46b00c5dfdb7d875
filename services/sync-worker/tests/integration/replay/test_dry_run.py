"""A dry run has the result of the real replay and changes nothing."""

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


def disordered(harness: ReplayHarness, seed: int, number: int) -> list[Sent]:
    """Patches whose versions come in any order, some of them twice, some of them faulty."""
    random = Random(seed)
    events = []
    for _ in range(number):
        fields: dict[str, Any] = {
            each: random.choice([None, "x", "y", "z"]) for each in random.sample(("username", "bio", "displayName"), 2)
        }
        if random.random() < 0.05:
            fields = {"verified": "perhaps"}
        events.append(harness.event(str(random.randrange(12)), random.randrange(number), **fields))
    return events + random.sample(events, number // 10)


@pytest.mark.parametrize("force", [False, True], ids=["not forced", "forced"])
async def test_dry_run_changes_nothing_and_has_the_result_of_the_replay(harness: ReplayHarness, force: bool) -> None:
    events = disordered(harness, 7, 200)
    await harness.publish(*events)
    await harness.consume()
    await harness.delete_inbox_rows(*events[20:150])
    for number in range(0, 12, 2):
        await harness.damage(str(number), username="damaged", bio="long " * 100)
    await harness.delete_performer("3")
    before = await harness.performers(), await harness.inbox(), await harness.published_changes()
    fields = await harness.rows()
    dry = result_of(await harness.replay(force=force, dryRun=True))
    assert (await harness.performers(), await harness.inbox(), await harness.published_changes()) == before
    real = result_of(await harness.replay(force=force))
    assert {name: dry[name] for name in ("events", "byType", "byOutcome")} == {
        name: real[name] for name in ("events", "byType", "byOutcome")
    }
    previewed = {each["performerId"]: each["changes"] for each in dry["performers"]}
    changed = changes(fields, await harness.rows())
    assert previewed.keys() == changed.keys()
    for name, each in changed.items():
        for pair in each.values():
            if isinstance(pair["from"], str) and len(pair["from"]) > 200:
                pair["from"] = pair["from"][:200] + "…"
        assert previewed[name] == each
    assert (dry["performersChanging"], dry["isExact"]) == (len(changed), True)


async def test_dry_run_reports_a_hundred_performers_and_counts_all(harness: ReplayHarness) -> None:
    await harness.publish(*(harness.event(str(number), 1, bio="x") for number in range(130)))
    result = result_of(await harness.replay(dryRun=True))
    assert (len(result["performers"]), result["performersChanging"]) == (100, 130)
    assert await harness.rows() == {}


async def test_dry_run_with_too_many_performers_is_not_exact(
    harness: ReplayHarness,
) -> None:
    events = [harness.event(str(number % 30), number, bio=str(number)) for number in range(90)]
    deliveries = [
        Delivery(
            Envelope(each.event_id, "performer.profile.updated", AT, each.performer_id),
            each.message().value,
            PERFORMER,
            0,
            offset,
            AT,
        )
        for offset, each in enumerate(events)
    ]
    dry_run = DryRun(harness.handler, SYNC_WORKER, is_forced=False, max_reported=100, max_performers=20)
    async with harness.database.read_connection() as reading:
        for start in range(0, 90, 10):
            assert await dry_run.preview(reading, deliveries[start : start + 10]) == {"applied": 10}
    dry_run.finish()
    assert not dry_run.is_exact
    assert len(dry_run.differences) == 30
    assert dry_run.changing >= 30
