"""The metrics of a worker during and after a replay."""

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from safevideo_common.database.dialect import for_update
from safevideo_common.database.tables import performers
from safevideo_common.jobs.model import JobStatus
from safevideo_common.replay.request import JOB_TYPE
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.replay import ReplayHarness, result_of
from safevideo_testkit.stacks import REAL

EVENTS = 50
only_real = pytest.mark.parametrize("stack", [REAL], indirect=True)


@dataclass(frozen=True)
class Scrape:
    harness: ReplayHarness

    def value(self, name: str, **labels: str) -> float:
        found = self.harness.registry.get_sample_value(f"safevideo_replay_{name}", labels)
        assert found is not None
        return found

    def outcomes(self, mode: str) -> dict[str, float]:
        names = ("applied", "stale", "ignored", "waiting", "dead", "known")
        found = {name: self.value("events_total", mode=mode, outcome=name) for name in names}
        return {name: events for name, events in found.items() if events}

    async def rises(self, name: str, above: float, **labels: str) -> None:
        async def is_so() -> bool:
            return self.value(name, **labels) > above

        await eventually(is_so)

    async def comes_to_rest(self) -> None:
        async def is_so() -> bool:
            return self.is_at_rest()

        await eventually(is_so)

    def is_at_rest(self) -> bool:
        return not any((
            self.value("records_remaining", mode="real"), self.value("records_remaining", mode="dry"),
            self.value("stalled_seconds"),
        ))  # fmt: skip


async def published(harness: ReplayHarness) -> None:
    """Over several partitions: a dry run takes a chunk of one at once."""
    await harness.publish(*(harness.event("abcdefgh"[number % 8], number, bio=str(number)) for number in range(EVENTS)))


async def test_metrics_count_events_by_outcome_and_mode(harness: ReplayHarness) -> None:
    scrape = Scrape(harness)
    await published(harness)
    await harness.publish(harness.event("z", 1, verified="perhaps"))
    previewed = result_of(await harness.replay(dryRun=True))["byOutcome"]
    assert (scrape.outcomes("dry"), scrape.outcomes("real")) == (previewed, {})
    await harness.replay()
    assert scrape.outcomes("real") == previewed == {"applied": EVENTS, "dead": 1}
    await harness.replay()
    assert scrape.outcomes("real") == {"applied": EVENTS, "dead": 1, "known": EVENTS + 1}
    assert scrape.outcomes("dry") == previewed
    assert scrape.is_at_rest()


@pytest.mark.parametrize("is_dry", [False, True], ids=["real", "dry"])
async def test_gauges_are_set_during_a_replay_and_reset_after_cancellation(
    harness: ReplayHarness, is_dry: bool
) -> None:
    scrape, mode = Scrape(harness), "dry" if is_dry else "real"
    await published(harness)
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(eventsPerSecond=2, dryRun=is_dry))
        await scrape.rises("throttled_seconds_total", 0.4, reason="throttle")
        assert scrape.value("records_remaining", mode=mode) > 0
        assert scrape.value("throttled_seconds_total", reason="live_lag") == 0
        await harness.cancel(job_id)
        await harness.jobs.wait_for_status(job_id, JobStatus.CANCELLED)
    assert scrape.is_at_rest()


async def test_gauges_are_reset_after_a_failed_replay(harness: ReplayHarness) -> None:
    scrape = Scrape(harness)
    await harness.publish(*(harness.event("a", number, verified="perhaps") for number in range(120)))
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(eventsPerSecond=100))
        job = await harness.jobs.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error or "").startswith("TOO_MANY_DEAD")
    assert scrape.is_at_rest()


async def test_replay_that_waits_for_the_live_flow_is_not_idle(harness: ReplayHarness) -> None:
    scrape = Scrape(harness)
    await published(harness)
    for behind in (5000, 6000):
        harness.lag.update(behind)
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(eventsPerSecond=20))
        await scrape.rises("throttled_seconds_total", 0.9, reason="live_lag")
        assert scrape.value("records_remaining", mode="real") > 0
        assert scrape.value("stalled_seconds") < 0.9
        harness.lag.update(0)
        await harness.wait_until_completed(job_id)
    assert scrape.is_at_rest()


@only_real
async def test_replay_behind_a_locked_row_is_idle(harness: ReplayHarness) -> None:
    scrape = Scrape(harness)
    await published(harness)
    await harness.consume()
    mine = performers.c.sharegram_id == f"{harness.prefix}_a"
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        async with harness.database.transaction() as tx:
            await tx.execute(for_update(select(performers.c.id).where(mine)))
            job_id = await harness.jobs.enqueue(harness.new_job(force=True))
            await scrape.rises("stalled_seconds", 1.0)
            assert scrape.value("records_remaining", mode="real") > 0
        await harness.wait_until_completed(job_id)
    assert scrape.is_at_rest()


async def test_gauges_are_reset_after_the_lease_is_lost(harness: ReplayHarness) -> None:
    scrape = Scrape(harness)
    await published(harness)
    async with harness.jobs.running({JOB_TYPE: harness.replay_job}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(eventsPerSecond=2))
        await scrape.rises("records_remaining", 0, mode="real")
        await harness.jobs.update_row(job_id, status="failed")
        await scrape.comes_to_rest()
