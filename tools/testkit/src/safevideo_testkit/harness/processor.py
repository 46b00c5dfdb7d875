"""A harness for the batch processor, with a small handler: an event appends a word to its performer's username."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.database import performers as repository
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.database.tables import event_inbox, performers
from safevideo_common.domain.outcomes import APPLIED, IGNORED, Outcome, waiting
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.resilience.backoff import Backoff

START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
CHANGED_TOPIC: Final = "marks.changed"
NOT_YET: Final = waiting("NOT_YET", "the handler is closed")


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """A word for a performer: `explode` raises until the handler is fixed, `wait` waits until it is open."""

    performer_id: str
    word: str


@dataclass(slots=True)
class SampleState:
    """The performers of a batch, and their new words."""

    stored: dict[str, LockedPerformer]
    words: dict[str, list[str]] = field(default_factory=dict)
    changes: list[Message] = field(default_factory=list)


class SampleHandler:
    """Appends the words of events to the username of their performer."""

    def __init__(self) -> None:
        """`committed` are the performers that `after_commit` was called with."""
        self.is_open = True
        self.is_fixed = False
        self.committed: list[str] = []

    def parse(self, delivery: Delivery) -> SampleEvent | Outcome:
        """Return the body as the word."""
        if delivery.envelope.type != "mark" or delivery.envelope.subject is None:
            return IGNORED
        return SampleEvent(delivery.envelope.subject, delivery.body.decode())

    async def load(self, tx: AsyncConnection, events: Sequence[SampleEvent]) -> SampleState:
        """Load and lock the rows of the performers."""
        return SampleState(dict(await repository.load_for_update(tx, {event.performer_id for event in events})))

    async def locked(self, tx: AsyncConnection, events: Sequence[SampleEvent]) -> Sequence[SampleEvent]:
        """Return the events of locked performers."""
        locked = await repository.locked(tx, {event.performer_id for event in events})
        return [event for event in events if event.performer_id in locked]

    def decide(self, states: SampleState, event: SampleEvent) -> Outcome:
        """Add the word."""
        if event.word == "explode" and not self.is_fixed:
            raise ZeroDivisionError("a secret of the event")
        if event.word == "wait" and not self.is_open:
            return NOT_YET
        states.words.setdefault(event.performer_id, []).append(event.word)
        states.changes.append(Message(CHANGED_TOPIC, event.performer_id.encode(), event.word.encode()))
        return APPLIED

    async def store(self, tx: AsyncConnection, states: SampleState) -> None:
        """Append the words, with a space between two."""
        updated = [
            row._replace(performer=_performer(name, row.performer.fields["username"], states.words[name]))
            for name, row in states.stored.items()
            if name in states.words
        ]
        await repository.update(tx, updated, START)
        new = [_performer(name, None, words) for name, words in states.words.items() if name not in states.stored]
        await repository.insert_new(tx, new, START)

    def changes(self, states: SampleState) -> Sequence[Message]:
        """Return a message for each added word."""
        return states.changes

    async def after_commit(self, states: SampleState) -> None:
        """Record the performers."""
        self.committed += states.stored


def _performer(name: str, before: object, words: list[str]) -> Performer:
    username = " ".join([str(before), *words] if before else words)
    return Performer(name, {**DEFAULTS, "username": username}, {})


_BY_ARRIVAL: Final = event_inbox.c.id
_OUTCOMES: Final = select(event_inbox.c.status, event_inbox.c.performer_id).order_by(_BY_ARRIVAL)
_REASONS: Final = select(event_inbox.c.reason).order_by(_BY_ARRIVAL)
_DUPLICATES: Final = select(event_inbox.c.duplicates).order_by(_BY_ARRIVAL)


class ProcessorHarness:
    """A processor and a retry scanner with a clock that stands still, and queries of their results."""

    def __init__(self, database: Database, logger: FilteringBoundLogger, handler: SampleHandler | None = None) -> None:
        self.now = START
        self.handler = handler or SampleHandler()
        self.registry = CollectorRegistry()
        self.consumer: ConsumerContext[SampleEvent, SampleState] = ConsumerContext(
            "marks",
            self.handler,
            database,
            Backoff(1.0, 8.0),
            clock=lambda: self.now,
            logger=logger,
            metrics=ConsumerMetrics(self.registry),
            dlq_limit=DlqLimit(limit=0.5, window=1000, minimum=100),
        )
        self.processor = BatchProcessor(self.consumer, LivePolicy(self.consumer))
        of_retries = replace(self.consumer, dlq_limit=DlqLimit(limit=0.5, window=1000, minimum=100))
        self.scanner = RetryScanner(of_retries, scan_interval=1.0, max_attempts=3)

    async def process(self, *deliveries: Delivery) -> None:
        """Process one batch."""
        await self.processor.process(deliveries)

    async def scan_after(self, seconds: float) -> None:
        """Move the clock and process the due queues."""
        self.now += timedelta(seconds=seconds)
        await self.scanner.scan()

    def samples(self, name: str) -> Sequence[Sample]:
        """Return the samples of a series in the metrics."""
        return [each for family in self.registry.collect() for each in family.samples if each.name == name]

    async def words(self) -> dict[str, str]:
        """Return the usernames by performer."""
        async with self.consumer.database.read_connection() as connection:
            rows = await connection.execute(select(performers.c.sharegram_id, performers.c.username))
            return {row.sharegram_id: row.username for row in rows}

    async def outcomes(self) -> Sequence[tuple[str, str]]:
        """Return status and performer of each event, in the order of arrival."""
        async with self.consumer.database.read_connection() as connection:
            rows = await connection.execute(_OUTCOMES)
            return [(status, performer_id) for status, performer_id in rows]

    async def reasons(self) -> Sequence[str]:
        """Return the reason of each event, or an empty text."""
        async with self.consumer.database.read_connection() as connection:
            return [reason or "" for reason in await connection.scalars(_REASONS)]

    async def duplicates(self) -> Sequence[int]:
        """Return the number of repeated deliveries of each event."""
        async with self.consumer.database.read_connection() as connection:
            return list(await connection.scalars(_DUPLICATES))

    async def outbox(self) -> Sequence[Message]:
        """Return the messages in the outbox, in order."""
        async with self.consumer.database.read_connection() as connection:
            return [each.message for each in (await outbox_store.fetch_pending(connection, 1000, 1 << 30)).messages]


_offsets = count()


def sample_event(
    performer_id: str, word: str, *, event_id: str | None = None, offset: int | None = None, event_type: str = "mark"
) -> Delivery:
    """Return the next record of partition 0. The same `event_id` at another offset is a redelivery."""
    offset = next(_offsets) if offset is None else offset
    return Delivery(
        Envelope(event_id or f"evt-{offset}", event_type, START, performer_id), word.encode(), "marks", 0, offset, START
    )
