"""Marks that come through a log and a consume loop, as in a worker, on any database."""

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
from safevideo_common.inbox.group_member import build_worker_app, run_consumer
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import FAILED
from safevideo_testkit.eventually import eventually
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
    """Marks whose transactions can be met on the way: `before` the performers are locked, and `after`."""

    def __init__(self) -> None:
        """`loads` are the transactions begun so far."""
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
    """A running consumer of marks."""

    handler: RecordingHandler
    publisher: Producer

    async def publish(self, performer_id: str, *words: str) -> None:
        """One event a word."""
        for word in words:
            envelope, body, *_ = sample_event(performer_id, word)
            await self.publisher.publish(Message(TOPIC, performer_id.encode(), body, envelope.headers()))


@asynccontextmanager
async def mark_stream(
    database: Database, folder: Path, log: FilteringBoundLogger, handler: RecordingHandler | None = None
) -> AsyncIterator[ConsumerHarness]:
    """The loop and the retries over an embedded log in `folder`; leaving raises what either died of."""
    handler = handler or RecordingHandler()
    consumer: ConsumerContext[SampleEvent, SampleState] = ConsumerContext(
        GROUP,
        handler,
        database,
        Backoff(0.01, 0.05),
        clock=utc_now,
        log=log,
        metrics=ConsumerMetrics(registry := CollectorRegistry()),
        dead_share=DlqLimit(limit=0.5, window=1000, least=100),
    )
    settings = ConsumerSettings.model_validate(
        {"database_url": "sqlite+aiosqlite:///not-used", "kafka_bootstrap_servers": "", "retry_scan_seconds": 0.05}
    )
    async with open_broker("", folder) as broker, broker.producer("test") as publisher:
        await broker.create_topics([Topic(TOPIC, 1, _DAY_MS)])
        app = build_worker_app(broker, log, registry)
        failed = app[FAILED] = asyncio.get_running_loop().create_future()
        async with run_consumer(app, broker, [TOPIC], consumer, settings):
            yield ConsumerHarness(handler, publisher)
        if failed.done():
            failed.result()


async def ends_with(seen: ProcessorHarness, words: dict[str, str]) -> None:
    """Wait for these usernames; then each event has one row, applied, and was counted once."""

    async def is_so() -> bool:
        try:
            return await seen.words() == words
        except ServiceUnavailable:
            return False

    await eventually(is_so)
    events = sum(len(each.split()) for each in words.values())
    assert [status for status, _ in await seen.outcomes()] == ["applied"] * events
    assert await seen.duplicates() == [0] * events


async def waits(logs: Path, why: str = "") -> None:
    """Until the loop has said that it does, with these words in the reason."""

    async def is_so() -> bool:
        return any("Consuming waits" in line and why in line for line in await asyncio.to_thread(_lines, logs))

    await eventually(is_so)


def _lines(logs: Path) -> list[str]:
    return [line for written in logs.glob("*.log") for line in written.read_text().splitlines()]
