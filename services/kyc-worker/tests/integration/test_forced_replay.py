"""A forced replay of events that are waiting, dead, or recorded twice."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import msgspec
import orjson
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from kyc_worker.verifications.handler import KycRequestStates, VerificationEvent, VerificationHandler
from safevideo_common.broker.types import Record
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.events.topics import CHANGES, KYC, KYC_WORKER
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery, delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.replay.policies import Force
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.stacks import StackUnderTest

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
JOB_ID = 7


class ForcedReplay:
    """A consumer of verification events of one request, and the policies that it is driven with."""

    def __init__(self, database: Database, log: FilteringBoundLogger) -> None:
        self.database = database
        self.name = f"sg_{token_hex(6)}"
        self.handler = VerificationHandler(utc_now, KycRules())
        self.consumer: ConsumerContext[VerificationEvent, KycRequestStates] = ConsumerContext(
            KYC_WORKER, self.handler, database, Backoff(0.001, 0.001), utc_now, log,
            ConsumerMetrics(CollectorRegistry()), DlqLimit(0.5, 1000, 100),
        )  # fmt: skip

    def event(self, number: int, offset: int, *, version: int | None = None, status: str = "failed") -> Delivery:
        envelope = Envelope(f"{self.name}-{number}", "kyc.verification.completed", AT, self.name)
        result = {"status": status, "riskScore": number}
        data = {"verificationId": self.name, "performerId": self.name, "result": result, "version": version}
        return delivery_of(
            Record(KYC, 0, offset, 0, self.name.encode(), orjson.dumps({"data": data}), envelope.headers())
        )

    async def insert_request(self) -> None:
        async with self.database.transaction() as tx:
            await kyc_requests.insert_request(tx, self.name, self.name, KycStatus.IN_PROGRESS, AT)

    async def consume(self, *deliveries: Delivery) -> None:
        await BatchProcessor(self.consumer, LivePolicy(self.consumer)).process(deliveries)

    async def replay(self, *deliveries: Delivery) -> None:
        await BatchProcessor(self.consumer, Force(self.consumer, self.handler, JOB_ID)).process(deliveries)

    async def scan(self) -> None:
        await RetryScanner(self.consumer, scan_interval=1, max_attempts=3).scan()

    async def statuses(self) -> list[str]:
        query = select(event_inbox.c.status).where(event_inbox.c.performer_id == self.name).order_by(event_inbox.c.id)
        async with self.database.read_connection() as reading:
            return list(await reading.scalars(query))

    async def bury(self, number: int) -> None:
        """Make an applied event dead, as a bad release might have."""
        async with self.database.transaction() as tx:
            await tx.execute(
                update(event_inbox)
                .where(event_inbox.c.event_id == f"{self.name}-{number}")
                .values(status="dead", reason="HANDLER_FAILED: KeyError")
            )

    async def risk_score(self) -> float | None:
        async with self.database.read_connection() as reading:
            return (await kyc_requests.load(reading, [self.name]))[self.name].risk_score

    async def published(self) -> list[tuple[str, int]]:
        """Return id, without the performer, and sequence of each change."""
        async with self.database.read_connection() as reading:
            pending = await outbox_store.fetch_pending(reading, 1000, 1 << 30)
        messages = [each.message for each in pending.messages if each.message.topic == CHANGES]
        return [
            (parse_headers(each.headers).id.removeprefix(f"{self.name}-"), msgspec.json.decode(each.value)["sequence"])
            for each in messages
            if each.key == self.name.encode()
        ]


@pytest.fixture
async def forced(stack: StackUnderTest, log: FilteringBoundLogger) -> AsyncIterator[ForcedReplay]:
    async with Database.open(stack.database_url) as database:
        yield ForcedReplay(database, log)


async def test_forced_replay_completes_a_waiting_event_and_no_scan_does_it_again(forced: ForcedReplay) -> None:
    event = forced.event(1, offset=5)
    await forced.consume(event)
    assert await forced.statuses() == ["waiting"]
    await forced.insert_request()
    await forced.replay(event)
    await forced.scan()
    assert await forced.statuses() == ["applied"]
    assert [each for each, _ in await forced.published()] == ["1"]


async def test_forced_replay_completes_a_dead_event(forced: ForcedReplay) -> None:
    await forced.insert_request()
    await forced.consume(forced.event(1, offset=5), forced.event(2, offset=6))
    await forced.bury(1)
    await forced.replay(forced.event(1, offset=5), forced.event(2, offset=6))
    assert await forced.statuses() == ["stale", "applied"]
    assert [each for each, _ in await forced.published()] == ["1", "2"]


async def test_forced_replay_leaves_an_event_waiting_that_cannot_be_applied(forced: ForcedReplay) -> None:
    await forced.consume(forced.event(1, offset=5))
    await forced.replay(forced.event(1, offset=5))
    assert (await forced.statuses(), await forced.published()) == (["waiting"], [])


async def test_forced_replay_of_a_further_record_does_not_win_a_tie_that_the_first_one_lost(
    forced: ForcedReplay,
) -> None:
    await forced.insert_request()
    for batch in ([forced.event(1, offset=1)], [forced.event(2, offset=2)], [forced.event(1, offset=3)]):
        await forced.consume(*batch)
    assert await forced.risk_score() == 2
    await forced.replay(forced.event(1, offset=3))
    await forced.replay(forced.event(1, offset=1), forced.event(2, offset=2), forced.event(1, offset=3))
    assert await forced.risk_score() == 2


async def test_forced_replay_of_a_late_pass_leaves_a_superseded_request_rejected(forced: ForcedReplay) -> None:
    await forced.insert_request()
    failed = forced.event(1, offset=1, version=1)
    late = forced.event(95, offset=2, version=2, status="passed")
    await forced.consume(failed)
    async with forced.database.transaction() as tx:
        second = await kyc_requests.insert_request(tx, forced.name, f"{forced.name}-2", KycStatus.VERIFIED, AT)
        await kyc_requests.supersede(tx, forced.name, second)

    async def standing() -> list[tuple[str, float | None]]:
        async with forced.database.read_connection() as reading:
            found = await kyc_requests.load(reading, [forced.name, f"{forced.name}-2"])
        return [(each.status, each.risk_score) for _, each in sorted(found.items())]

    await forced.consume(late)
    assert await standing() == [("rejected", 95), ("verified", None)]
    await forced.replay(failed, late)
    await forced.replay(late)
    assert await standing() == [("rejected", 95), ("verified", None)]
    assert await forced.statuses() == ["applied", "applied"]
    again = forced.event(3, offset=3, version=3)
    await forced.consume(again)
    async with forced.database.transaction() as tx:
        assert await kyc_requests.count_flagged(tx) == 1
        await kyc_requests.set_values(tx, second, review_reason=None)  # a reviewer has answered it
    await forced.replay(failed, late, again)
    async with forced.database.read_connection() as reading:
        assert await kyc_requests.count_flagged(reading) == 0


async def test_sequences_rise_with_each_change_also_of_a_replay(forced: ForcedReplay) -> None:
    await forced.insert_request()
    await forced.consume(forced.event(1, offset=1), forced.event(2, offset=2))
    await forced.consume(forced.event(3, offset=3))
    async with forced.database.transaction() as tx:
        found = (await kyc_requests.load_for_update(tx, [forced.name]))[forced.name]
        await kyc_requests.update(tx, [replace(found, status=KycStatus.VERIFIED)], utc_now())
    await forced.replay(forced.event(1, offset=1), forced.event(3, offset=3))
    published = await forced.published()
    assert [each for each, _ in published] == ["1", "2", "3", f"3#replay-{JOB_ID}"]
    sequences = [sequence for _, sequence in published]
    assert sequences == sorted(set(sequences))
    assert sequences[0] > (utc_now() - timedelta(minutes=5)).timestamp() * 1_000_000
