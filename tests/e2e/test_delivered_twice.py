"""An event that comes twice has one effect, whatever its type. A new type fails here until it has an example."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Table, select

import kyc_worker.app
import sync_worker.app
from kyc_worker.verifications.handler import VerificationHandler
from safevideo_common.broker.types import Record
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests as requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests, outbox, performers
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.events.topics import TOPIC_BY_TYPE, topic_of
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery, EventHandler, delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_testkit.eventually import FakeClock
from sync_worker.performers.handler import PerformerHandler

UNKNOWN = "performer.never.heard.of"
PERFORMER, VERIFICATION = "sg_1", "ver_1"
EXAMPLES: Mapping[str, Mapping[str, object]] = {
    "performer.profile.updated": {"changes": {"username": "new"}},
    "performer.status.changed": {"status": "active"},
    "kyc.verification.completed": {"verificationId": VERIFICATION, "result": {"status": "passed", "riskScore": 93}},
    "kyc.verification.failed": {"verificationId": VERIFICATION, "result": {"status": "failed"}},
    UNKNOWN: {},
}
WORKERS: Mapping[str, tuple[Sequence[str], Callable[[Clock], EventHandler[Any, Any]]]] = {
    sync_worker.app.SERVICE: (sync_worker.app.TOPICS, lambda clock: PerformerHandler(clock, NoCache())),
    kyc_worker.app.SERVICE: (kyc_worker.app.TOPICS, lambda clock: VerificationHandler(clock, 80)),
}

Rows = Sequence[Mapping[str, object]]


class NoCache:
    async def invalidate(self, performer_ids: object) -> None:
        pass


class Worker:
    """The part of a worker between the log and the database. Its clock goes on by a minute a batch."""

    def __init__(self, service: str, database: Database, log: FilteringBoundLogger) -> None:
        self.topics, handler = WORKERS[service]
        self._clock = FakeClock()
        self._database = database
        consumer: ConsumerContext[Any, Any] = ConsumerContext(
            service,
            handler(self._clock),
            database,
            Backoff(1.0, 8.0),
            clock=self._clock,
            logger=log,
            metrics=ConsumerMetrics(CollectorRegistry()),
            dlq_limit=DlqLimit(limit=0.5, window=1000, minimum=100),
        )
        self._processor = BatchProcessor(consumer, LivePolicy(consumer))

    async def take(self, *deliveries: Delivery) -> None:
        await self._processor.process(deliveries)
        self._clock.advance(timedelta(minutes=1))

    async def effects(self) -> Rows:
        """All that events have changed, and what is told of it."""
        return [*await self._rows(performers), *await self._rows(kyc_requests), *await self.told()]

    async def told(self) -> Rows:
        return await self._rows(outbox)

    async def inbox(self) -> Rows:
        return await self._rows(event_inbox)

    async def _rows(self, table: Table) -> Rows:
        async with self._database.read_connection() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]


@pytest.fixture
async def worker(request: pytest.FixtureRequest, database: Database, log: FilteringBoundLogger) -> Worker:
    async with database.transaction() as tx:
        now = datetime.now(UTC)
        await requests.insert_request(tx, PERFORMER, VERIFICATION, KycStatus.IN_PROGRESS, now)
    return Worker(request.param, database, log)


def delivery(event_type: str, event_id: str = "evt", offset: int = 7) -> Delivery:
    """As the door writes it."""
    data = {"performerId": PERFORMER, **EXAMPLES[event_type]}
    webhook = {"id": event_id, "event": event_type, "timestamp": "2026-11-24T12:00:00Z", "data": data}
    message = message_of(parse_webhook(body := orjson.dumps(webhook), {}, Correlation("", "")), body)
    return delivery_of(Record(message.topic, 0, offset, 0, message.key, message.value, message.headers))


def home_of(event_type: str) -> str:
    """The worker that consumes it."""
    return next(service for service, (topics, _) in WORKERS.items() if topic_of(event_type) in topics)


@pytest.mark.parametrize(
    ("worker", "event_type"),
    [(home_of(each), each) for each in (*TOPIC_BY_TYPE, UNKNOWN)],
    indirect=["worker"],
)
async def test_an_event_that_comes_again_changes_nothing_and_is_counted(worker: Worker, event_type: str) -> None:
    await worker.take(delivery(event_type, offset=7), delivery(event_type, offset=8))
    effects, (row,) = await worker.effects(), await worker.inbox()
    assert row["status"] == ("ignored" if event_type == UNKNOWN else "applied")
    assert len(await worker.told()) == (event_type != UNKNOWN)
    assert (row["source_offset"], row["last_offset"], row["duplicates"]) == (7, 8, 1)
    await worker.take(delivery(event_type, offset=9))
    await worker.take(delivery(event_type, offset=8), delivery(event_type, offset=9))
    assert await worker.effects() == effects
    assert await worker.inbox() == [{**row, "last_offset": 9, "duplicates": 2}]


@pytest.mark.parametrize("worker", WORKERS, indirect=True)
async def test_what_belongs_to_another_worker_is_ignored_each_time(worker: Worker) -> None:
    strange = [each for each in TOPIC_BY_TYPE if topic_of(each) not in worker.topics]
    batch = [delivery(each, event_id=f"evt-{number}") for number, each in enumerate(strange)]
    effects = await worker.effects()
    await worker.take(*batch)
    await worker.take(*batch)
    assert [row["status"] for row in await worker.inbox()] == ["ignored"] * len(strange)
    assert await worker.effects() == effects
