"""The job `performer_sync`: what it writes, publishes and leaves alone, on every kind of database."""

from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.performer_sync.request import FETCH_JOB, SYNC_JOB
from safevideo_common.sharegram.client import PerformerPage, SharegramClient
from safevideo_common.sharegram.operations import PerformerRecord
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.performer_sync import Syncs


async def test_full_sync_ends_with_the_master_and_a_second_one_changes_nothing(syncs: Syncs) -> None:
    names = await syncs.invent(25)  # within a millisecond or two, so pages end within ties of updatedAt
    await syncs.store(names[0], names[1], version=0, bio="outdated")
    result = await syncs.full()
    assert (result["scanned"], result["created"], result["updated"]) == (25, 23, 2)
    assert await syncs.differences() == []
    published = await syncs.published()
    assert sorted(str(body["performerId"]) for _, body in published) == sorted(names)

    rows = await syncs.stored()
    again = await syncs.full()
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 25)
    assert (await syncs.stored(), await syncs.published()) == (rows, published)


async def test_newer_webhooks_win_over_pages_and_damaged_values_are_restored(syncs: Syncs) -> None:
    await syncs.at_master("sg_newer", profile={"bio": "page"}, version=5, status="active")
    await syncs.at_master("sg_damaged", profile={"bio": "right"}, version=5, status="active")
    await syncs.store("sg_newer", version=6, bio="webhook", status="suspended")
    await syncs.store("sg_damaged", version=5, bio="damaged", status="active")
    await syncs.full()
    rows = await syncs.stored()
    assert rows["sg_newer"].performer.fields["bio"] == "webhook"
    assert rows["sg_newer"].performer.write_versions["bio"].version == 6
    assert rows["sg_damaged"].performer.fields["bio"] == "right"
    assert rows["sg_damaged"].performer.write_versions["bio"] == WriteVersion(5, 1_700_000_000_000_000, 5)
    [(event_id, body)] = await syncs.published()
    assert (body["performerId"], body["changes"]) == ("sg_damaged", {"bio": "right"})
    assert event_id.startswith("sg_damaged#sync-")


async def test_incremental_sync_begins_at_the_watermark_of_the_last_one(syncs: Syncs) -> None:
    await syncs.invent(10)
    await syncs.full()
    calls = len((await syncs.simulator.state())["calls"])
    await syncs.at_master("sg_late", profile={"bio": "late"})
    job = await syncs.run(fullSync=False)
    assert job.result is not None
    assert job.result["created"] == 1
    assert await syncs.differences() == []
    lists = (await syncs.simulator.state())["calls"][calls:]
    assert lists
    assert job.cursor is not None
    assert job.cursor["since"] is not None


async def test_dry_run_names_what_differs_and_writes_nothing(syncs: Syncs) -> None:
    await syncs.at_master("sg_missing", profile={"bio": "x"})
    await syncs.at_master("sg_drift", profile={"bio": "right"}, version=5, status="pending")
    await syncs.store("sg_drift", version=5, bio="wrong")
    await syncs.store("sg_extra")
    rows = await syncs.stored()
    job = await syncs.run(fullSync=True, dryRun=True)
    assert job.result is not None
    assert (job.result["created"], job.result["missing"], job.result["deleted"]) == (1, 1, 0)
    assert job.result["performers"] == [{"performerId": "sg_drift", "fields": ["bio"]}]
    assert job.result["drift"] == {"missingHere": 1, "extraHere": 1, "different": 1, "byField": {"bio": 1}}
    assert "wrong" not in str(job.result)
    assert (await syncs.stored(), await syncs.published()) == (rows, [])


async def test_deleted_performers_are_marked_after_a_404_and_return_with_a_record(syncs: Syncs) -> None:
    await syncs.invent(20)
    await syncs.full()
    gone = "sg_gone"
    await syncs.store(gone)
    result = await syncs.full()
    assert (result["missing"], result["deleted"]) == (1, 1)
    row = (await syncs.stored())[gone]
    assert row.performer.deleted_at is not None
    event_id, body = (await syncs.published())[-1]
    assert (event_id.startswith("sg_gone#sync-"), event_id.endswith("-deleted")) == (True, True)
    assert msgspec.convert(body["changes"], dict[str, datetime]) == {"deletedAt": row.performer.deleted_at}
    assert row.id in syncs.cache.ids
    assert (await syncs.full())["missing"] == 0

    await syncs.at_master(gone, version=3, profile={"bio": "back"}, status="pending")
    await syncs.full()
    assert (await syncs.stored())[gone].performer.deleted_at is None
    assert (await syncs.published())[-1][1]["changes"] == {"bio": "back", "deletedAt": None}


async def test_too_many_missing_performers_wait_for_a_confirmation(syncs: Syncs) -> None:
    await syncs.invent(20)
    await syncs.full()
    missing = [f"sg_gone_{number:02}" for number in range(10)]
    await syncs.store(*missing)
    syncs.registry = CollectorRegistry()
    held = await syncs.run(fullSync=True, ends=JobStatus.FAILED)
    assert held.error is not None
    assert held.error.startswith("DELETIONS_NEED_CONFIRMATION: 10 of 30 performers")
    metric = syncs.registry.get_sample_value
    assert metric("safevideo_sync_scans_total", {"outcome": "guard"}) == 1
    assert metric("safevideo_sync_drift_performers", {"kind": "extra"}) == 10
    assert metric("safevideo_sync_performers_total", {"result": "unchanged"}) == 20
    assert metric("safevideo_sync_running_seconds") == 0
    syncs.registry = None
    rows = await syncs.stored()
    assert all(row.performer.deleted_at is None for row in rows.values())

    await syncs.at_master(missing[0], version=1)  # it is back: the confirmation does not delete it
    await syncs.store("sg_not_listed")
    confirmed = await syncs.run(confirmDeletionsOf=held.id)
    assert confirmed.result == {"deleted": 9, "confirmed": held.id}
    rows = await syncs.stored()
    deleted = {name for name, row in rows.items() if row.performer.deleted_at is not None}
    assert deleted == set(missing[1:])
    again = await syncs.run(confirmDeletionsOf=held.id, ends=JobStatus.FAILED)
    assert again.error is not None
    assert again.error.startswith("NO_DELETIONS_TO_CONFIRM")


@pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
async def test_sync_waits_as_long_as_sharegram_says_in_the_middle_of_a_scan(syncs: Syncs) -> None:
    syncs.page_size = 3
    await syncs.invent(25)
    faults = {"mode": "rate_limited", "retryAfter": 1, "rate": 0.3, "paths": ["/v1/performers"]}
    await syncs.simulator.put("/_sim/faults", faults)

    result = await syncs.full()
    assert result["scanned"] == 25
    assert await syncs.differences() == []
    assert len(await syncs.published()) == 25


@pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
async def test_sync_is_deferred_while_sharegram_refuses_to_say_who_is_missing(syncs: Syncs) -> None:
    await syncs.store("sg_gone_1", "sg_gone_2")
    faults = {"mode": "rate_limited", "retryAfter": 600, "paths": ["/v1/performers/"]}
    await syncs.simulator.put("/_sim/faults", faults)
    job_id = await syncs.jobs.enqueue(NewJob(SYNC_JOB, {"fullSync": True}))

    async def has_ended() -> bool:
        return bool(await syncs.jobs.attempts(job_id))

    async with syncs.jobs.running(syncs.handlers()):
        await eventually(has_ended)
    assert await syncs.jobs.attempts(job_id) == [(1, "deferred")]


class FirstPerformersOnly:
    """A Sharegram whose list ends too early, and says so with 200."""

    def __init__(self, client: SharegramClient) -> None:
        self._client = client

    async def performers(self, *arguments: Any, **options: Any) -> PerformerPage:
        page = await self._client.performers(*arguments, **options)
        return PerformerPage(page.performers[:3], page.invalid, None)

    async def performer(self, *arguments: Any) -> PerformerRecord:
        return await self._client.performer(*arguments)


async def test_incomplete_page_that_looks_complete_deletes_nobody(syncs: Syncs) -> None:
    await syncs.invent(12)
    await syncs.full()
    rows = await syncs.stored()
    syncs.sharegram = cast("SharegramClient", FirstPerformersOnly(syncs.sharegram))
    result = await syncs.full()
    assert (result["scanned"], result["missing"], result["deleted"]) == (3, 9, 0)
    assert await syncs.stored() == rows


async def test_fetch_job_writes_whole_records_and_skips_unknown_performers(syncs: Syncs) -> None:
    await syncs.at_master("sg_1", profile={"bio": "whole"}, status="active")
    job = await syncs.run(FETCH_JOB, performerIds=["sg_1", "sg_nobody"])
    assert job.result == {"requested": 2, "found": 1}
    assert list(await syncs.stored()) == ["sg_1"]
    assert await syncs.differences() == []
