"""A range of the topic, replayed: what is applied, what is left alone, and what is told of it."""

from datetime import timedelta
from typing import Any

import msgspec

from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.events.envelope import parse_headers
from safevideo_common.jobs.model import JobStatus
from safevideo_common.replay.request import JOB_TYPE
from safevideo_testkit.harness.replay import ReplayHarness, Sent, folded, result_of


def some(bench: ReplayHarness) -> list[Sent]:
    return [
        bench.event("a", 1, username="first", bio="one"),
        bench.event("b", 1, username="other"),
        bench.event("a", 2, username="second"),
        bench.event("a", 3, bio="three"),
    ]


async def test_without_force_only_what_the_inbox_lacks_is_applied(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    await bench.live()
    before = await bench.inbox()
    await bench.forget(events[1], events[3])
    await bench.damage("b", username="damaged")
    await bench.damage("a", username="damaged", bio="damaged")
    job = await bench.replay()
    assert result_of(job)["byOutcome"] == {"known": 2, "applied": 2}
    assert result_of(job)["byType"] == {"performer.profile.updated": 4}
    assert (job.total_items, job.progress) == (job.processed_items, 100)
    a, b = f"{bench.prefix}_a", f"{bench.prefix}_b"
    rows = await bench.rows()
    assert (rows[b]["username"], rows[a]["username"], rows[a]["bio"]) == ("other", "damaged", "three")
    assert sorted(await bench.inbox()) == sorted(before), "nothing is counted as a duplicate"


async def test_a_lost_range_is_applied_as_if_it_came_now(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    job = await bench.replay()
    assert await bench.rows() == folded(events)
    assert [status for _, status, _ in await bench.inbox()] == ["applied"] * 4
    assert sorted(parse_headers(each.headers).id for each in await bench.told()) == sorted(e.event_id for e in events)
    again = await bench.replay()
    assert (result_of(job)["byOutcome"], result_of(again)["byOutcome"]) == ({"applied": 4}, {"known": 4})


async def test_forced_a_damaged_value_is_restored_and_nothing_goes_back_in_time(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    await bench.live()
    told = len(await bench.told())
    inbox, stamped = await bench.inbox(), await bench.stamped()
    await bench.damage("a", username="damaged")
    bench.drops.ids.clear()
    newer = bench.event("a", 4, bio="four")
    await bench.publish(newer)
    await bench.live()
    job = await bench.replay(force=True, to=rfc3339(utc_now()))
    assert await bench.rows() == folded([*events, newer])
    assert (await bench.stamped())[f"{bench.prefix}_b"] == stamped[f"{bench.prefix}_b"]
    assert (await bench.inbox())[:4] == inbox, "what the inbox says stays as it was"
    assert len(set(bench.drops.ids)) == 2, "what is cached of them is dropped"
    correction = (await bench.told())[told + 1 :]
    assert [msgspec.json.decode(each.value)["changes"] for each in correction] == [{"username": "second"}]
    assert parse_headers(correction[0].headers).id == f"{events[2].event_id}#replay-{job.id}"


async def test_forced_again_nothing_changes_and_nothing_is_told(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    await bench.live()
    told, stamped = await bench.told(), await bench.stamped()
    job = await bench.replay(force=True)
    assert result_of(job)["byOutcome"] == {"applied": 3, "stale": 1}
    assert (await bench.told(), await bench.stamped()) == (told, stamped)


async def test_forced_a_row_that_is_gone_comes_back_and_so_do_the_inbox_rows(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    await bench.live()
    before = await bench.stamped(), sorted(await bench.inbox())
    await bench.forget(*events[:3])
    await bench.delete("a")
    await bench.replay(force=True)
    assert (await bench.stamped(), sorted(await bench.inbox())) == before


async def test_only_what_the_filters_let_through_is_replayed(bench: ReplayHarness) -> None:
    events = some(bench)
    await bench.publish(*events)
    job = await bench.replay(types=["performer.status.changed"])
    assert result_of(job)["events"] == 0
    await bench.replay(performerIds=[f"{bench.prefix}_b"])
    assert await bench.rows() == folded([events[1]])
    job = await bench.replay(to=rfc3339(bench.began + timedelta(milliseconds=100)))
    assert result_of(job)["events"] == 0
    later: dict[str, Any] = {"from": rfc3339(utc_now() + timedelta(hours=1))}
    job = await bench.replay(**later)
    assert result_of(job)["events"] == 0


async def test_a_faulty_event_costs_only_itself_and_not_the_run(bench: ReplayHarness) -> None:
    events = some(bench)
    wrong = bench.event("b", 2, verified="perhaps")
    await bench.publish(*events[:2], wrong, *events[2:])
    job = await bench.replay()
    assert result_of(job)["byOutcome"] == {"applied": 4, "dead": 1}
    assert await bench.rows() == folded(events)


async def test_parameters_that_make_no_sense_fail_the_job_at_once(bench: ReplayHarness) -> None:
    async with bench.jobs.running({JOB_TYPE: bench.replays}, service="sync-worker"):
        job_id = await bench.jobs.enqueue(bench.asked(topic="sharegram.kyc.v1"))
        job = await bench.jobs.wait_for_status(job_id, JobStatus.FAILED)
    assert job.error == "PARAMETERS_INVALID: target: sync-worker does not read sharegram.kyc.v1"
    assert job.attempts == 1


async def test_a_replay_is_cancelled_while_it_is_throttled(bench: ReplayHarness) -> None:
    await bench.publish(*(bench.event("a", number, bio=str(number)) for number in range(50)))
    async with bench.jobs.running({JOB_TYPE: bench.replays}, service="sync-worker"):
        job_id = await bench.jobs.enqueue(bench.asked(eventsPerSecond=2))
        await bench.jobs.wait_for_status(job_id, JobStatus.PROCESSING)
        await bench.cancel(job_id)
        job = await bench.jobs.wait_for_status(job_id, JobStatus.CANCELLED)
    assert job.cancel_reason == "enough"
    assert len(await bench.inbox()) < 50
