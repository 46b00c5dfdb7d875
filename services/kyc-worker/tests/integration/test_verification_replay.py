"""A replay of verification events restores a damaged request."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from kyc_worker.verifications.handler import KycRequestStates, VerificationEvent, VerificationHandler
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Message
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import kyc_requests as table
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.events.topics import KYC, KYC_WORKER
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.group_member import LagTrend
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.replay.job import ReplayJob
from safevideo_common.replay.metrics import ReplayMetrics
from safevideo_common.replay.request import JOB_TYPE
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.stacks import StackUnderTest

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
PERFORMER_ID = f"sg_{secrets.token_hex(6)}"
VERIFICATION_ID = f"ver_{secrets.token_hex(6)}"


def verification(seconds: int, **result: Any) -> Message:
    envelope = Envelope(
        f"{VERIFICATION_ID}-{seconds}", "kyc.verification.completed", AT + timedelta(seconds=seconds), PERFORMER_ID
    )
    data = {"verificationId": VERIFICATION_ID, "performerId": PERFORMER_ID, "result": result}
    return Message(KYC, PERFORMER_ID.encode(), orjson.dumps({"data": data}), envelope.headers())


async def changes_in_outbox(database: Database) -> list[Message]:
    async with database.read_connection() as reading:
        messages = [each.message for each in (await outbox_store.fetch_pending(reading, 1000, 1 << 30)).messages]
    return [each for each in messages if each.topic == "integration.events.v1"]


async def test_replay_previews_and_restores_a_damaged_request(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with (
        Database.open(stack.database_url) as database,
        broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as publisher,
    ):
        handler = VerificationHandler(utc_now, KycRules())
        consumer: ConsumerContext[VerificationEvent, KycRequestStates] = ConsumerContext(
            KYC_WORKER, handler, database, Backoff(1, 8), utc_now, log,
            ConsumerMetrics(CollectorRegistry()), DlqLimit(0.5, 1000, 100),
        )  # fmt: skip
        replay_job = ReplayJob(
            broker, consumer, handler, LagTrend(), lambda: DlqLimit(0.5, 1000, 100),
            ReplayMetrics(CollectorRegistry()),
        )  # fmt: skip
        jobs = JobHarness(database, log)
        started_at = rfc3339(utc_now() - timedelta(seconds=1))
        async with database.transaction() as tx:
            request_id = await kyc_requests.insert_request(tx, PERFORMER_ID, VERIFICATION_ID, KycStatus.IN_PROGRESS, AT)
        await publisher.publish_batch(
            [verification(1, status="passed", riskScore=95), verification(2, status="failed")]
        )

        async def replay(**parameters: Any) -> dict[str, Any]:
            defaults = {
                "topic": KYC, "target": KYC_WORKER, "from": started_at, "dryRun": False,
                "performerIds": [PERFORMER_ID],
            }  # fmt: skip
            job_id = await jobs.enqueue(NewJob(JOB_TYPE, defaults | parameters, runner=KYC_WORKER))
            return dict((await jobs.wait_for_status(job_id, JobStatus.COMPLETED)).result or {})

        async with jobs.running({JOB_TYPE: replay_job}, service=KYC_WORKER):
            assert (await replay())["byOutcome"] == {"applied": 2}
            assert len(await changes_in_outbox(database)) == 2
            async with database.transaction() as tx:
                await tx.execute(update(table).where(table.c.id == request_id).values(status="verified"))
            dry = await replay(force=True, dryRun=True)
            changes = {f"request {request_id}: status": {"from": "verified", "to": "rejected"}}
            assert dry["performers"] == [{"performerId": PERFORMER_ID, "changes": changes}]
            real = await replay(force=True)
        assert dry["byOutcome"] == real["byOutcome"] == {"stale": 1, "applied": 1}
        async with database.read_connection() as reading:
            assert await reading.scalar(select(table.c.status).where(table.c.id == request_id)) == "rejected"
        *_, correction = await changes_in_outbox(database)
        assert len(await changes_in_outbox(database)) == 3
        change = msgspec.json.decode(correction.value)
        assert (change["previousStatus"], change["status"]) == ("verified", "rejected")
        assert parse_headers(correction.headers).id.startswith(f"{VERIFICATION_ID}-2#replay-")
