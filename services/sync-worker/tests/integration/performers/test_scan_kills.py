"""A scan whose worker is killed again and again, while webhooks change what it reads.

`make chaos` does it with a thousand performers and ten kills.
"""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest

from safevideo_common.clock import utc_now
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.handler import Delivery
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.outbox import store as outbox_store
from safevideo_common.performer_sync.request import SYNC_JOB
from safevideo_common.tasks import running_task
from safevideo_testkit.chaos.sync_worker_process import start_sync_worker
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.performer_sync import Syncs
from sync_worker.performers.handler import PerformerHandler

PERFORMERS = int(os.environ.get("CHAOS_SYNC_PERFORMERS", "200"))
KILLS = int(os.environ.get("CHAOS_SYNC_KILLS", "3"))
PAGE = max(10, PERFORMERS // 25)


async def receive(syncs: Syncs, handler: PerformerHandler, name: str, offset: int) -> None:
    """Change a performer at the master, and apply its webhook here as sync-worker does."""
    profile, status = {"bio": f"webhook {offset}", "displayName": None}, "active"
    await syncs.at_master(name, profile=profile, status=status, version=100)
    at = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=offset)
    body = msgspec.json.encode({"data": {"performerId": name, "changes": profile, "status": status, "version": 100}})
    delivery = Delivery(Envelope(f"evt-{offset}", "performer.profile.updated", at, name), body, "t", 0, offset, at)
    event = handler.parse(delivery)
    assert not isinstance(event, Outcome)
    async with syncs.database.transaction() as tx:
        states = await handler.load(tx, [event])
        handler.decide(states, event)
        await handler.store(tx, states)
        await outbox_store.record(tx, handler.changes(states), utc_now())


@pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
async def test_scan_that_is_killed_beside_webhooks_ends_with_the_master(
    syncs: Syncs, database_url: str, sharegram_settings: dict[str, object]
) -> None:
    names = await syncs.invent(PERFORMERS)
    job_id = await syncs.jobs.enqueue(NewJob(SYNC_JOB, {"fullSync": True}, runner="sync-worker"))
    handler = PerformerHandler(utc_now, syncs.cache)

    async def send() -> None:
        for offset, name in enumerate(names[::3]):
            await retry_on_conflict(partial(receive, syncs, handler, name, offset))

    async def processed() -> int:
        return (await syncs.jobs.job(job_id)).processed_items or 0

    kills = 0
    async with running_task(send(), "webhooks") as sending:
        while kills < KILLS:
            before = await processed()
            worker = start_sync_worker(database_url, sharegram_settings, PAGE)
            try:

                async def has_moved(before: int = before) -> bool:
                    return await processed() > before or (await syncs.jobs.job(job_id)).status is JobStatus.COMPLETED

                await eventually(has_moved)
            finally:
                worker.kill()
                await asyncio.to_thread(worker.join)
            kills += 1
        async with syncs.jobs.running(syncs.handlers(), service="sync-worker"):
            job = await syncs.jobs.wait_for_status(job_id, JobStatus.COMPLETED)
        await sending
    assert job.attempts > KILLS // 2, "the scan has ended before it was killed"

    assert await syncs.differences() == []
    published = await syncs.published()
    ids = [event_id for event_id, _ in published]
    assert len(ids) == len(set(ids))
    assert await syncs.followed() == {
        name: row.performer.visible_fields for name, row in (await syncs.stored()).items()
    }
    rows = await syncs.stored()
    again = await syncs.full()
    assert (again["created"], again["updated"]) == (0, 0)
    assert await syncs.stored() == rows
