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
from safevideo_common.inbox.performer_history import PerformerHistoryDocument, performer_history
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.inbox.redrive import RedriveService
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.inbox.store.queries import (
    EventDocument,
    event_document,
    get_by_event_id,
    writers_of_overtaken_fields,
)
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
        return (await self.document(version))["status"]

    async def document(self, version: int) -> EventDocument:
        async with self.database.read_connection() as reading:
            (row,) = await get_by_event_id(reading, f"evt-{version}")
            return event_document(row, await writers_of_overtaken_fields(reading, row))

    async def history(self) -> PerformerHistoryDocument:
        return await performer_history(self.database, "sg_1", with_email=False)


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
    row = await worker.document(1)
    assert (row["status"], row["reason"], row["version"]) == ("stale", "OVERTAKEN: username by version 3", 1)


async def test_redriven_events_end_like_events_in_order(worker: Worker) -> None:
    events = [(1, {"username": "first", "bio": "one"}), (2, {"bio": "two"}), (3, {"username": "third"})]
    await worker.deliver([events[2], events[1], events[0]])
    await worker.fix_and_redrive()
    assert await worker.fields() == {"username": "third", "bio": "two"}
    assert [await worker.status(version) for version in (1, 2, 3)] == ["stale", "applied", "applied"]


async def test_applied_event_tells_which_fields_it_won_and_to_which_event_it_lost_the_others(worker: Worker) -> None:
    await worker.deliver([(3, {"username": "third"}), (1, {"username": "first", "bio": "of the first"})])
    await worker.fix_and_redrive()
    overtaken = {"field": "username", "version": 3, "occurredAt": "2026-11-24T12:00:03.000Z", "eventId": "evt-3"}
    late, newest = await worker.document(1), await worker.document(3)
    assert (late["status"], late["version"], late["won"], late["overtaken"]) == ("applied", 1, ["bio"], [overtaken])
    assert (newest["status"], newest["version"], newest["won"], newest["overtaken"]) == ("applied", 3, ["username"], [])


async def test_history_has_the_last_writer_of_each_field_and_the_events_that_lost(worker: Worker) -> None:
    await worker.deliver([(9, {"displayName": "New"}), (7, {"displayName": "Old"}), (8, {"email": "a@example.com"})])
    history = await worker.history()
    fields = {each["field"]: each for each in history["fields"]}
    name = {"value": "New", "version": 9, "occurredAt": "2026-11-24T12:00:09.000Z", "eventId": "evt-9"}
    assert fields["displayName"] == {"field": "displayName", **name}
    assert (fields["email"]["value"], fields["email"]["eventId"]) == (None, "evt-8"), "the address needs a permission"
    assert fields["bio"] == {"field": "bio", "value": None, "version": None, "occurredAt": None, "eventId": None}
    (late,) = history["unapplied"]
    assert (late["eventId"], late["reason"]) == ("evt-7", "OVERTAKEN: displayName by version 9")
    assert [each.get("eventId") for each in late["overtaken"]] == ["evt-9"]
