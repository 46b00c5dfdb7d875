"""A replay of a range: applied events, unchanged values, and published changes."""

from datetime import timedelta
from typing import Any

import msgspec

from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.events.envelope import parse_headers
from safevideo_common.jobs.model import JobStatus
from safevideo_common.replay.request import JOB_TYPE
from safevideo_testkit.harness.replay import ReplayHarness, Sent, expected_rows, result_of


def some(harness: ReplayHarness) -> list[Sent]:
    return [
        harness.event("a", 1, username="first", bio="one"),
        harness.event("b", 1, username="other"),
        harness.event("a", 2, username="second"),
        harness.event("a", 3, bio="three"),
    ]


async def test_replay_applies_only_missing_events(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    await harness.consume()
    before = await harness.inbox()
    await harness.delete_inbox_rows(events[1], events[3])
    await harness.damage("b", username="damaged")
    await harness.damage("a", username="damaged", bio="damaged")
    job = await harness.replay()
    assert result_of(job)["byOutcome"] == {"known": 2, "applied": 2}
    assert result_of(job)["byType"] == {"performer.profile.updated": 4}
    assert (job.total_items, job.progress) == (job.processed_items, 100)
    a, b = f"{harness.prefix}_a", f"{harness.prefix}_b"
    rows = await harness.rows()
    assert (rows[b]["username"], rows[a]["username"], rows[a]["bio"]) == ("other", "damaged", "three")
    assert sorted(await harness.inbox()) == sorted(before), "nothing is counted as a duplicate"


async def test_replay_applies_a_missing_range_like_new_events(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    job = await harness.replay()
    assert await harness.rows() == expected_rows(events)
    assert [status for _, status, _ in await harness.inbox()] == ["applied"] * 4
    assert sorted(parse_headers(each.headers).id for each in await harness.published_changes()) == sorted(
        e.event_id for e in events
    )
    again = await harness.replay()
    assert (result_of(job)["byOutcome"], result_of(again)["byOutcome"]) == ({"applied": 4}, {"known": 4})


async def test_forced_replay_restores_a_damaged_value_and_overwrites_nothing_newer(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    await harness.consume()
    published_before = len(await harness.published_changes())
    inbox, performers = await harness.inbox(), await harness.performers()
    await harness.damage("a", username="damaged")
    harness.invalidator.ids.clear()
    newer = harness.event("a", 4, bio="four")
    await harness.publish(newer)
    await harness.consume()
    job = await harness.replay(force=True, to=rfc3339(utc_now()))
    assert await harness.rows() == expected_rows([*events, newer])
    assert (await harness.performers())[f"{harness.prefix}_b"] == performers[f"{harness.prefix}_b"]
    assert (await harness.inbox())[:4] == inbox, "existing inbox rows stay as they were"
    assert len(set(harness.invalidator.ids)) == 2, "their cached values are invalidated"
    correction = (await harness.published_changes())[published_before + 1 :]
    assert [msgspec.json.decode(each.value)["changes"] for each in correction] == [{"username": "second"}]
    assert parse_headers(correction[0].headers).id == f"{events[2].event_id}#replay-{job.id}"


async def test_forced_replay_without_damage_changes_and_publishes_nothing(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    await harness.consume()
    published_before, performers = await harness.published_changes(), await harness.performers()
    job = await harness.replay(force=True)
    assert result_of(job)["byOutcome"] == {"applied": 3, "stale": 1}
    assert (await harness.published_changes(), await harness.performers()) == (published_before, performers)


async def test_forced_replay_restores_deleted_rows(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    await harness.consume()
    before = await harness.performers(), sorted(await harness.inbox())
    await harness.delete_inbox_rows(*events[:3])
    await harness.delete_performer("a")
    await harness.replay(force=True)
    assert (await harness.performers(), sorted(await harness.inbox())) == before


async def test_forced_replay_that_applies_an_ignored_event_says_so_in_its_row(harness: ReplayHarness) -> None:
    event = harness.event("a", 1, bio="one")
    await harness.publish(event)
    await harness.consume()
    await harness.delete_performer("a")
    await harness.set_status(event, "ignored")  # as a release that did not know the type
    published_before = len(await harness.published_changes())
    job = await harness.replay(force=True)
    assert await harness.outcomes() == [("applied", f"REPLAYED: by job {job.id}")]
    (change,) = (await harness.published_changes())[published_before:]
    assert parse_headers(change.headers).id == event.event_id
    await harness.replay(force=True)
    assert len(await harness.published_changes()) == published_before + 1


async def test_replay_applies_its_filters(harness: ReplayHarness) -> None:
    events = some(harness)
    await harness.publish(*events)
    job = await harness.replay(types=["performer.status.changed"])
    assert result_of(job)["events"] == 0
    await harness.replay(performerIds=[f"{harness.prefix}_b"])
    assert await harness.rows() == expected_rows([events[1]])
    job = await harness.replay(to=rfc3339(harness.started_at + timedelta(milliseconds=100)))
    assert result_of(job)["events"] == 0
    later: dict[str, Any] = {"from": rfc3339(utc_now() + timedelta(hours=1))}
    job = await harness.replay(**later)
    assert result_of(job)["events"] == 0


async def test_replay_dead_letters_only_the_failing_event(harness: ReplayHarness) -> None:
    events = some(harness)
    wrong = harness.event("b", 2, verified="perhaps")
    await harness.publish(*events[:2], wrong, *events[2:])
    job = await harness.replay()
    assert result_of(job)["byOutcome"] == {"applied": 4, "dead": 1}
    assert await harness.rows() == expected_rows(events)


async def test_replay_with_invalid_parameters_fails_at_once(harness: ReplayHarness) -> None:
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(topic="sharegram.kyc.v1"))
        job = await harness.jobs.wait_for_status(job_id, JobStatus.FAILED)
    assert job.error == "PARAMETERS_INVALID: target: sync-worker does not read sharegram.kyc.v1"
    assert job.attempts == 1


async def test_throttled_replay_can_be_cancelled(harness: ReplayHarness) -> None:
    await harness.publish(*(harness.event("a", number, bio=str(number)) for number in range(50)))
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(eventsPerSecond=2))
        await harness.jobs.wait_for_status(job_id, JobStatus.PROCESSING)
        await harness.cancel(job_id)
        job = await harness.jobs.wait_for_status(job_id, JobStatus.CANCELLED)
    assert job.cancel_reason == "enough"
    assert len(await harness.inbox()) < 50
