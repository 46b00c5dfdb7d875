"""An event of any type that is delivered twice has one effect. A new type fails here until `TYPES` has an example."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

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
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.events.topics import TOPIC_BY_TYPE, topic_of
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery, EventHandler, delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import FakeClock
from safevideo_testkit.oracle.stream import UNKNOWN_TYPE, example, verification_id, write_webhook
from sync_worker.performers.handler import PerformerHandler

PERFORMER = "sg_1"
WORKERS: Mapping[str, tuple[Sequence[str], Callable[[Clock], EventHandler[Any, Any]]]] = {
    sync_worker.app.SERVICE: (sync_worker.app.TOPICS, lambda clock: PerformerHandler(clock, NoCache())),
    kyc_worker.app.SERVICE: (kyc_worker.app.TOPICS, lambda clock: VerificationHandler(clock, KycRules())),
}

Rows = Sequence[Mapping[str, object]]


class NoCache:
    async def invalidate(self, performer_ids: object) -> None:
        pass


class Worker:
    """The part of a worker between broker and database. Its clock advances by a minute a batch."""

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

    async def process(self, *deliveries: Delivery) -> None:
        await self._processor.process(deliveries)
        self._clock.advance(timedelta(minutes=1))

    async def effects(self) -> Rows:
        """Return all rows that events have written, without those of the inbox."""
        return [*await self.rows(performers), *await self.rows(kyc_requests), *await self.rows(outbox)]

    async def rows(self, table: Table) -> Rows:
        async with self._database.read_connection() as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]


@pytest.fixture
async def worker(request: pytest.FixtureRequest, database: Database, log: FilteringBoundLogger) -> Worker:
    async with database.transaction() as tx:
        now = datetime.now(UTC)
        await requests.insert_request(tx, PERFORMER, verification_id(PERFORMER), KycStatus.IN_PROGRESS, now)
    return Worker(request.param, database, log)


def delivery(event_type: str, event_id: str = "evt", offset: int = 7) -> Delivery:
    message = write_webhook(event_type, event_id, PERFORMER, example(event_type, PERFORMER)).message
    return delivery_of(Record(message.topic, 0, offset, 0, message.key, message.value, message.headers))


def consumer_of(event_type: str) -> str:
    return next(service for service, (topics, _) in WORKERS.items() if topic_of(event_type) in topics)


@pytest.mark.parametrize(
    ("worker", "event_type"),
    [(consumer_of(each), each) for each in (*TOPIC_BY_TYPE, UNKNOWN_TYPE)],
    indirect=["worker"],
)
async def test_worker_counts_a_repeated_event_and_changes_nothing(worker: Worker, event_type: str) -> None:
    await worker.process(delivery(event_type, offset=7), delivery(event_type, offset=8))
    effects, (row,) = await worker.effects(), await worker.rows(event_inbox)
    assert row["status"] == ("ignored" if event_type == UNKNOWN_TYPE else "applied")
    assert len(await worker.rows(outbox)) == (event_type != UNKNOWN_TYPE)
    assert (row["source_offset"], row["last_offset"], row["duplicates"]) == (7, 8, 1)
    await worker.process(delivery(event_type, offset=9))
    await worker.process(delivery(event_type, offset=8), delivery(event_type, offset=9))
    assert await worker.effects() == effects
    assert await worker.rows(event_inbox) == [{**row, "last_offset": 9, "duplicates": 2}]


@pytest.mark.parametrize("worker", WORKERS, indirect=True)
async def test_worker_ignores_types_of_another_worker_each_time(worker: Worker) -> None:
    foreign = [each for each in TOPIC_BY_TYPE if topic_of(each) not in worker.topics]
    batch = [delivery(each, event_id=f"evt-{number}") for number, each in enumerate(foreign)]
    effects = await worker.effects()
    await worker.process(*batch)
    await worker.process(*batch)
    assert [row["status"] for row in await worker.rows(event_inbox)] == ["ignored"] * len(foreign)
    assert await worker.effects() == effects
