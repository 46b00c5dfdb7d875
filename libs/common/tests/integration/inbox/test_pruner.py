"""The inbox pruner: concurrent pruners, and one that is cancelled."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Status
from safevideo_common.events.topics import TOPIC_RETENTION_DAYS
from safevideo_common.inbox.metrics import InboxMetrics
from safevideo_common.inbox.retention import ROWS_PER_CHUNK, InboxPruner
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.harness.processor import START, ProcessorHarness, sample_event

MONTHS_AGO = START - timedelta(days=100)

NewPruner = Callable[[], tuple[InboxPruner, CollectorRegistry]]


@pytest.fixture
def new_pruner(database: Database, log: FilteringBoundLogger) -> NewPruner:
    """Create the pruner of one more worker, with its metrics."""

    def new_pruner() -> tuple[InboxPruner, CollectorRegistry]:
        inbox_metrics = InboxMetrics(registry := CollectorRegistry())
        month, quarter = timedelta(days=31), timedelta(days=90)
        return InboxPruner("marks", database, lambda: START, log, inbox_metrics, month, quarter), registry

    return new_pruner


async def fill(database: Database, status: Status, rows: int) -> None:
    at = MONTHS_AGO
    entries = [
        InboxEntry("marks", f"{status}-{n}", "mark", "sg_1", "marks", 0, n, at, at, at, status) for n in range(rows)
    ]
    async with database.transaction() as tx:
        await inbox_rows.insert_rows(tx, entries)


async def test_pruner_measures_the_inbox_and_deletes_old_rows(
    database: Database, harness: ProcessorHarness, new_pruner: NewPruner
) -> None:
    await fill(database, Status.WAITING, 3)
    await fill(database, Status.APPLIED, ROWS_PER_CHUNK + 1)
    pruner, metrics = new_pruner()
    await pruner.run_once()
    assert metrics.get_sample_value("safevideo_inbox_waiting_events") == 3
    assert metrics.get_sample_value("safevideo_inbox_oldest_waiting_seconds") == timedelta(days=100).total_seconds()
    assert metrics.get_sample_value("safevideo_inbox_deleted_total") == ROWS_PER_CHUNK + 1
    assert await harness.outcomes() == [("waiting", "sg_1")] * 3


async def test_pruner_goes_by_the_clock_of_the_database(
    database: Database, harness: ProcessorHarness, new_pruner: NewPruner
) -> None:
    harness.now = utc_now()
    await harness.process(sample_event("sg_1", "a")._replace(received_at=MONTHS_AGO), sample_event("sg_2", "x"))
    pruner, _ = new_pruner()
    pruner.clock = lambda: utc_now() + timedelta(days=400)
    assert await pruner.prune() == 0
    assert await harness.outcomes() == [("applied", "sg_1"), ("applied", "sg_2")]


async def test_one_pruner_at_a_time_deletes(
    database: Database, harness: ProcessorHarness, new_pruner: NewPruner
) -> None:
    await fill(database, Status.APPLIED, 5)
    workers = [new_pruner() for _ in range(3)]
    await workers[0][0].run_once()
    await fill(database, Status.STALE, 5)
    await asyncio.gather(*(pruner.run_once() for pruner, _ in workers))
    assert [metrics.get_sample_value("safevideo_inbox_deleted_total") for _, metrics in workers] == [5, 0, 0]
    assert len(await harness.outcomes()) == 5


async def test_cancelled_pruner_has_deleted_whole_chunks(
    database: Database, harness: ProcessorHarness, new_pruner: NewPruner
) -> None:
    await fill(database, Status.APPLIED, 3 * ROWS_PER_CHUNK)
    pruner, metrics = new_pruner()

    async def has_begun() -> bool:
        return bool(metrics.get_sample_value("safevideo_inbox_deleted_total"))

    async with running_task(pruner.run()):
        await eventually(has_begun)
    rest = len(await harness.outcomes())
    assert 0 < rest < 3 * ROWS_PER_CHUNK
    assert rest % ROWS_PER_CHUNK == 0


def settings(**days: int) -> ConsumerSettings:
    return ConsumerSettings.model_validate(
        {"database_url": "sqlite+aiosqlite:///x", "kafka_bootstrap_servers": "", **days}
    )


def test_settings_keep_events_as_long_as_their_records() -> None:
    assert settings().inbox_retention_days > TOPIC_RETENTION_DAYS
    with pytest.raises(ValueError, match="inbox_retention_days"):
        settings(inbox_retention_days=TOPIC_RETENTION_DAYS - 1)
    with pytest.raises(ValueError, match="must not be less than INBOX_RETENTION_DAYS"):
        settings(inbox_retention_days=60, inbox_dead_days=50)
    with pytest.raises(ValueError, match="must not be less than INBOX_RETENTION_DAYS"):
        settings(inbox_retention_days=120)
