"""A harness for a running consumer: sample events come through an embedded broker, as in a worker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message, Topic
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.group_member import LagTrend, build_worker_app, run_consumer
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import FAILED
from safevideo_common.web.app import SUPERVISOR
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually
from safevideo_testkit.harness.processor import (
    ProcessorHarness,
    SampleEvent,
    SampleHandler,
    SampleState,
    sample_event,
)

TOPIC: Final = "marks"
GROUP: Final = "marks"
_DAY_MS: Final = 24 * 60 * 60 * 1000


async def _nothing(_tx: AsyncConnection) -> None:
    pass


class RecordingHandler(SampleHandler):
    """A sample handler with hooks `before` and `after` it locks the performers."""

    def __init__(self) -> None:
        """`loads` counts the transactions."""
        super().__init__()
        self.loads = 0
        self.before: Callable[[AsyncConnection], Awaitable[None]] = _nothing
        self.after: Callable[[AsyncConnection], Awaitable[None]] = _nothing

    async def load(self, tx: AsyncConnection, events: Sequence[SampleEvent]) -> SampleState:
        """See `SampleHandler`."""
        self.loads += 1
        await self.before(tx)
        states = await super().load(tx, events)
        await self.after(tx)
        return states


@dataclass(frozen=True, slots=True)
class ConsumerHarness:
    """A running consumer."""

    handler: RecordingHandler
    publisher: Producer

    async def publish(self, performer_id: str, *words: str) -> None:
        """Publish one event per word."""
        for word in words:
            envelope, body, *_ = sample_event(performer_id, word)
            await self.publisher.publish(Message(TOPIC, performer_id.encode(), body, envelope.headers()))


@asynccontextmanager
async def run_sample_consumer(
    database: Database, folder: Path, logger: FilteringBoundLogger, handler: RecordingHandler | None = None
) -> AsyncIterator[ConsumerHarness]:
    """Run loop and retries on an embedded broker in `folder`. Leaving raises the error that stopped them."""
    handler = handler or RecordingHandler()
    consumer: ConsumerContext[SampleEvent, SampleState] = ConsumerContext(
        GROUP,
        handler,
        database,
        Backoff(0.01, 0.05),
        clock=utc_now,
        logger=logger,
        metrics=ConsumerMetrics(registry := CollectorRegistry()),
        dlq_limit=DlqLimit(limit=0.5, window=1000, minimum=100),
    )
    settings = ConsumerSettings.model_validate(
        {"database_url": "sqlite+aiosqlite:///not-used", "kafka_bootstrap_servers": "", "retry_scan_seconds": 0.05}
    )
    async with (
        open_broker("", folder) as broker,
        broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as publisher,
    ):
        await broker.create_topics([Topic(TOPIC, 1, _DAY_MS)])
        app = build_worker_app(broker, logger, registry)
        app[SUPERVISOR].max_failures = 1  # nothing is started again
        failed = app[FAILED] = asyncio.get_running_loop().create_future()
        async with run_consumer(app, broker, [TOPIC], consumer, settings, LagTrend()):
            yield ConsumerHarness(handler, publisher)
        if failed.done():
            failed.result()


async def wait_for_words(harness: ProcessorHarness, words: dict[str, str]) -> None:
    """Wait for these usernames, and check that each event is applied and was counted once."""

    async def is_so() -> bool:
        try:
            return await harness.words() == words
        except ServiceUnavailable:
            return False

    await eventually(is_so)
    events = sum(len(each.split()) for each in words.values())
    assert [status for status, _ in await harness.outcomes()] == ["applied"] * events
    assert await harness.duplicates() == [0] * events


async def wait_for_pause(logs: Path, reason: str = "") -> None:
    """Wait until the loop has logged its pause, with `reason` in the line."""

    async def is_so() -> bool:
        return any("Consumer paused" in line and reason in line for line in await asyncio.to_thread(_lines, logs))

    await eventually(is_so)


def _lines(logs: Path) -> list[str]:
    return [line for written in logs.glob("*.log") for line in written.read_text().splitlines()]
