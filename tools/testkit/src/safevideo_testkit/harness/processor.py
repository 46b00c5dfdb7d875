"""A handler small enough to see through: an event sets its performer's username, or does what a test needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from prometheus_client import CollectorRegistry
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import NullClaim
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
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext
from safevideo_common.inbox.retries import RetryScanner
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.resilience.backoff import Backoff

START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
CHANGED: Final = "marks.changed"
NOT_YET: Final = waiting("NOT_YET", "the door is closed")


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """One word for one performer: `explode` raises until the handler is mended, `wait` waits until it is open."""

    performer_id: str
    word: str


@dataclass(slots=True)
class SampleState:
    """The performers of a batch and the words that are new."""

    stored: dict[str, LockedPerformer]
    words: dict[str, list[str]] = field(default_factory=dict)
    changes: list[Message] = field(default_factory=list)


class SampleHandler:
    """Writes the words of a performer's events, one after the other, into the username."""

    def __init__(self) -> None:
        """Closed handlers let `wait` wait. `followed` are the performers whose commits were followed up."""
        self.is_open = True
        self.is_mended = False
        self.followed: list[str] = []

    def parse(self, delivery: Delivery) -> SampleEvent | Outcome:
        """The body is the word."""
        if delivery.envelope.type != "mark" or delivery.envelope.subject is None:
            return IGNORED
        return SampleEvent(delivery.envelope.subject, delivery.body.decode())

    async def load(self, tx: AsyncConnection, events: Sequence[SampleEvent]) -> SampleState:
        """The rows of the performers, locked."""
        return SampleState(dict(await repository.load_for_update(tx, {event.performer_id for event in events})))

    def decide(self, states: SampleState, event: SampleEvent) -> Outcome:
        """Adds the word."""
        if event.word == "explode" and not self.is_mended:
            raise ZeroDivisionError("a secret of the event")
        if event.word == "wait" and not self.is_open:
            return NOT_YET
        states.words.setdefault(event.performer_id, []).append(event.word)
        states.changes.append(Message(CHANGED, event.performer_id.encode(), event.word.encode()))
        return APPLIED

    async def store(self, tx: AsyncConnection, states: SampleState) -> None:
        """Appends the words, a space between two."""
        known = [
            row._replace(performer=_performer(name, row.performer.fields["username"], states.words[name]))
            for name, row in states.stored.items()
            if name in states.words
        ]
        await repository.update(tx, known, START)
        new = [_performer(name, None, words) for name, words in states.words.items() if name not in states.stored]
        await repository.insert_new(tx, new, START)

    def changes(self, states: SampleState) -> Sequence[Message]:
        """Each word that was added."""
        return states.changes

    async def after_commit(self, states: SampleState) -> None:
        """Remembers whom it was for."""
        self.followed += states.stored


def _performer(name: str, before: object, words: list[str]) -> Performer:
    username = " ".join([str(before), *words] if before else words)
    return Performer(name, {**DEFAULTS, "username": username}, {})


_BY_ARRIVAL: Final = event_inbox.c.id
_OUTCOMES: Final = select(event_inbox.c.status, event_inbox.c.performer_id).order_by(_BY_ARRIVAL)
_REASONS: Final = select(event_inbox.c.reason).order_by(_BY_ARRIVAL)
_DUPLICATES: Final = select(event_inbox.c.duplicates).order_by(_BY_ARRIVAL)


class ProcessorHarness:
    """A consumer of marks whose clock stands still, and what the database has after it."""

    def __init__(self, database: Database, log: FilteringBoundLogger, handler: SampleHandler | None = None) -> None:
        self.now = START
        self.handler = handler or SampleHandler()
        self.consumer: ConsumerContext[SampleEvent, SampleState] = ConsumerContext(
            "marks",
            self.handler,
            database,
            Backoff(1.0, 8.0),
            clock=lambda: self.now,
            log=log,
            metrics=ConsumerMetrics(CollectorRegistry()),
            dead_share=DlqLimit(limit=0.5, window=1000, least=100),
        )
        self.applier = BatchProcessor(self.consumer)
        self.retries = RetryScanner(self.consumer, scan_seconds=1.0, tries=3)

    async def apply(self, *deliveries: Delivery) -> None:
        """One batch."""
        await self.applier.apply(deliveries, NullClaim())

    async def scan_after(self, seconds: float) -> None:
        """Move the clock and look for what is due."""
        self.now += timedelta(seconds=seconds)
        await self.retries.scan()

    async def words(self) -> dict[str, str]:
        """Username by performer."""
        async with self.consumer.database.read_connection() as connection:
            rows = await connection.execute(select(performers.c.sharegram_id, performers.c.username))
            return {row.sharegram_id: row.username for row in rows}

    async def outcomes(self) -> Sequence[tuple[str, str]]:
        """Status and performer of each event, in the order in which they came."""
        async with self.consumer.database.read_connection() as connection:
            rows = await connection.execute(_OUTCOMES)
            return [(status, performer_id) for status, performer_id in rows]

    async def reasons(self) -> Sequence[str]:
        """Reason of each event, empty where there is none."""
        async with self.consumer.database.read_connection() as connection:
            return [reason or "" for reason in await connection.scalars(_REASONS)]

    async def duplicates(self) -> Sequence[int]:
        """Further deliveries of each event."""
        async with self.consumer.database.read_connection() as connection:
            return list(await connection.scalars(_DUPLICATES))

    async def told(self) -> Sequence[Message]:
        """What waits in the outbox, in order."""
        async with self.consumer.database.read_connection() as connection:
            return [each.message for each in await outbox_store.fetch_pending(connection, 1000, 1 << 30)]


_offsets = count()


def sample_event(
    performer_id: str, word: str, *, event_id: str | None = None, offset: int | None = None, event_type: str = "mark"
) -> Delivery:
    """The next record of partition 0. The same `event_id` at another offset is the same event, delivered again."""
    at = next(_offsets) if offset is None else offset
    return Delivery(
        Envelope(event_id or f"evt-{at}", event_type, START, performer_id), word.encode(), "marks", 0, at, START
    )
