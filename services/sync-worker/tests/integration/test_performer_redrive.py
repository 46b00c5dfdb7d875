"""Performer events that a broken release dead-lettered, redriven after newer events."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.audit.store import Caller
from safevideo_common.broker.port import NullClaim
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.inbox.store.queries import get_by_event_id
from safevideo_common.inbox.store.redrive import RedriveFilter
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OPERATOR = Caller("operator", "admin", None, "req-1")


class RecordingInvalidator:
    """A cache that remembers what was dropped."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        self.ids += performer_ids


class BadRelease(PerformerHandler):
    """Fails on some events until it is fixed."""

    def __init__(self, cache: RecordingInvalidator, fails_on: Collection[str]) -> None:
        super().__init__(lambda: NOW, cache)
        self.fails_on = fails_on

    def parse(self, delivery: Delivery) -> PerformerEvent | Outcome:
        if delivery.envelope.id in self.fails_on:
            raise KeyError("bio")
        return super().parse(delivery)


class Worker:
    """The worker's group on the database, without a broker."""

    def __init__(self, database: Database, log: FilteringBoundLogger, fails_on: Collection[str]) -> None:
        self.database = database
        self.cache = RecordingInvalidator()
        self.handler = BadRelease(self.cache, fails_on)
        metrics = ConsumerMetrics(CollectorRegistry())
        consumer: ConsumerContext[PerformerEvent, PerformerStates] = ConsumerContext(
            "sync-worker", self.handler, database, Backoff(1, 8), lambda: NOW, log, metrics, DlqLimit(0.5, 1000, 100)
        )
        self.processor = BatchProcessor(consumer, LivePolicy(consumer))
        self.scan = RetryScanner(consumer, scan_interval=1, max_attempts=3)

    async def deliver(self, versions: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Events `evt-<version>` with these changes, in this order."""
        deliveries = []
        for version, changes in versions:
            at = NOW + timedelta(seconds=version)
            body = orjson.dumps({"data": {"performerId": "sg_1", "changes": changes, "version": version}})
            envelope = Envelope(f"evt-{version}", "performer.profile.updated", at, "sg_1")
            deliveries.append(Delivery(envelope, body, "sharegram.performer.v1", 0, version, NOW))
        await self.processor.process(deliveries, NullClaim())

    async def fix_and_redrive(self) -> None:
        self.handler.fails_on = ()
        await RedriveService(self.database, lambda: NOW).run(RedriveFilter(), OPERATOR)
        await self.scan.scan()

    async def fields(self) -> dict[str, object]:
        async with self.database.transaction() as tx:
            (stored,) = (await performers.load_for_update(tx, ["sg_1"])).values()
        return {name: stored.performer.fields[name] for name in ("username", "bio")}

    async def status(self, version: int) -> str:
        async with self.database.read_connection() as reading:
            (row,) = await get_by_event_id(reading, f"evt-{version}")
        return row.status


@pytest.fixture
def worker(database: Database, log: FilteringBoundLogger) -> Worker:
    return Worker(database, log, {"evt-1", "evt-2"})


async def test_redriven_event_applies_only_fields_without_newer_values(worker: Worker) -> None:
    await worker.deliver([(1, {"username": "first", "bio": "of the first"}), (3, {"username": "third"})])
    assert await worker.status(1) == "dead"
    worker.cache.ids.clear()
    await worker.fix_and_redrive()
    assert await worker.fields() == {"username": "third", "bio": "of the first"}
    assert await worker.status(1) == "applied"
    assert len(worker.cache.ids) == 1, "its cached value is invalidated"


async def test_redriven_event_is_stale_if_all_fields_have_newer_values(worker: Worker) -> None:
    await worker.deliver([(1, {"username": "first"}), (3, {"username": "third", "bio": "of the third"})])
    await worker.fix_and_redrive()
    assert await worker.fields() == {"username": "third", "bio": "of the third"}
    assert await worker.status(1) == "stale"


async def test_redriven_events_end_like_events_in_order(worker: Worker) -> None:
    events = [(1, {"username": "first", "bio": "one"}), (2, {"bio": "two"}), (3, {"username": "third"})]
    await worker.deliver([events[2], events[1], events[0]])
    await worker.fix_and_redrive()
    assert await worker.fields() == {"username": "third", "bio": "two"}
    assert [await worker.status(version) for version in (1, 2, 3)] == ["stale", "applied", "applied"]
