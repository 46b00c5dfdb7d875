"""A webhook about a performer that is unknown here: it creates the performer, and a job fetches the rest."""

from datetime import UTC, datetime

import msgspec
from sqlalchemy import select

from safevideo_common.clock import utc_now
from safevideo_common.database.tables import batch_jobs
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.handler import Delivery
from safevideo_common.jobs.model import JobStatus
from safevideo_common.performer_sync.request import FETCH_JOB
from safevideo_testkit.harness.performer_sync import Syncs
from sync_worker.performers.handler import PerformerHandler

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_partial_webhook_creates_the_performer_and_a_job_fetches_the_rest(syncs: Syncs) -> None:
    await syncs.at_master("sg_1", profile={"username": "ada", "bio": "whole"}, status="active", version=4)
    handler = PerformerHandler(utc_now, syncs.cache, fetches=True)
    envelope = Envelope("evt-1", "performer.profile.updated", AT, "sg_1")
    body = msgspec.json.encode({"data": {"performerId": "sg_1", "changes": {"bio": "newer"}, "version": 5}})
    event = handler.parse(Delivery(envelope, body, "sharegram.performer.v1", 0, 0, AT))
    assert not isinstance(event, Outcome)
    for _ in range(2):  # delivered twice, it queues one job
        async with syncs.database.transaction() as tx:
            states = await handler.load(tx, [event])
            handler.decide(states, event)
            await handler.store(tx, states)
    async with syncs.database.read_connection() as connection:
        [job_id] = (await connection.scalars(select(batch_jobs.c.id).where(batch_jobs.c.job_type == FETCH_JOB))).all()
    async with syncs.jobs.running(syncs.handlers(), service="sync-worker"):
        await syncs.jobs.wait_for_status(job_id, JobStatus.COMPLETED)
    fields = (await syncs.stored())["sg_1"].performer.fields
    assert (fields["username"], fields["bio"], fields["status"]) == ("ada", "newer", "active")
