"""Retries of waiting events. The events of a performer wait in a queue; its head decides when the queue is due."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import Outcome, Status, dead
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import DlqRateExceeded
from safevideo_common.inbox.handler import Delivery, Event, States
from safevideo_common.inbox.processor import (
    NOT_CAUSED_BY_EVENTS,
    BatchProcessor,
    ConsumerContext,
    Decided,
    Decisions,
    LoadedBatch,
    Parsed,
    decide,
    describe_error,
    events_of,
    parse_all,
    without_erased,
)
from safevideo_common.inbox.store import retries as inbox_retries
from safevideo_common.inbox.store.retries import QueueHead, WaitingEvent
from safevideo_common.observability.tracing import SpanKind
from safevideo_common.resilience.duty_cycle import DutyCycle

HEADS_PER_SCAN: Final = 200
"""Of the heads with a retry time, and of those without one."""
EVENTS_PER_TRANSACTION: Final = 100
EVENTS_PER_QUEUE: Final = 10 * EVENTS_PER_TRANSACTION
"""In one scan. The rest of a longer queue is due in a later scan."""
PAUSE_SECONDS: Final = 300.0
"""After too many dead letters. So a failing redrive dead-letters a hundred events in five minutes, not thousands."""
UNSCHEDULED_DUTY: Final = 0.05
"""The maximum fraction of the time for the search for unscheduled heads. It is slow if 100,000 events wait."""


@dataclass(slots=True)
class RetryPolicy(Generic[Event, States]):
    """An attempt at the queue of one performer: decide its due events until one must wait again."""

    consumer: ConsumerContext[Event, States]
    head: QueueHead
    max_events: int
    max_attempts: int
    failure: Outcome | None = None
    """The outcome of the head, if its handler fails."""
    traceparent: str = ""
    """The span of this attempt, if it is sampled."""
    counts_duplicates: ClassVar[bool] = False
    holds_locked_events: ClassVar[bool] = False
    _queue: list[WaitingEvent] = field(default_factory=list)

    async def load(self, tx: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> LoadedBatch[Event, States]:
        """Lock the due events of the queue; `parsed` is empty."""
        consumer = self.consumer
        self._queue = await inbox_retries.waiting_of(tx, consumer.group, self.head, consumer.clock(), self.max_events)
        deliveries = [_delivery(event, self.traceparent) for event in self._queue]
        if self.failure is None:
            parsed = await without_erased(tx, parse_all(consumer.handler, deliveries))
        else:
            parsed = [Parsed(delivery, self.failure) for delivery in deliveries]
        return LoadedBatch(parsed, await consumer.handler.load(tx, events_of(parsed)), {}, set())

    @property
    def first_request_id(self) -> str:
        """The request that brought the first event of the queue; empty if it is unknown or nothing was due."""
        return (self._queue[0].request_id or "") if self._queue else ""

    def decide(self, batch: LoadedBatch[Event, States]) -> Decisions:
        """Decide in order and stop after an event that must wait. The last attempt dead-letters such an event."""
        decisions = Decisions()
        for event, parsed in zip(self._queue, batch.parsed, strict=True):
            attempts = event.tries + 1
            outcome = decide(self.consumer.handler, batch.states, parsed)
            if outcome.status is Status.WAITING and (outcome.is_expected or attempts < self.max_attempts):
                decisions.unchanged.append(Decided(parsed.delivery, outcome, attempts))
                break
            if outcome.status is Status.WAITING:
                outcome = dead("TRIES_EXHAUSTED", f"after {attempts} tries: {outcome.reason}")
            decisions.new.append(Decided(parsed.delivery, outcome, attempts))
        return decisions

    async def write_rows(self, tx: AsyncConnection, decisions: Decisions) -> None:
        """Complete the decided events and reschedule the one that must wait."""
        now = self.consumer.clock()
        for event, (_, outcome, _) in zip(self._queue, decisions.new, strict=False):
            await inbox_retries.complete(tx, event.row_id, outcome, now)
        for _, outcome, attempts in decisions.unchanged:
            next_try_at = now + timedelta(seconds=self.consumer.retry_backoff.delay(attempts))
            row_id = self._queue[len(decisions.new)].row_id
            await inbox_retries.reschedule(tx, row_id, next_try_at, attempts, outcome.reason or "")

    def messages(self, states: States, decisions: Decisions) -> Sequence[Message]:  # noqa: ARG002
        """Return a message for each applied event."""
        return self.consumer.handler.changes(states)


def _delivery(event: WaitingEvent, traceparent: str) -> Delivery:
    return Delivery(
        Envelope(
            event.event_id,
            event.event_type,
            event.occurred_at,
            event.performer_id,
            event.request_id or "",
            traceparent,
        ),
        event.payload,
        event.source_topic,
        event.source_partition,
        event.source_offset,
        event.received_at,
    )


@dataclass(frozen=True, slots=True)
class RetryScanner(Generic[Event, States]):
    """Searches for waiting events that are due. Any number of members may scan: a queue in work is locked."""

    consumer: ConsumerContext[Event, States]
    scan_interval: float
    """Seconds."""
    max_attempts: int
    """After this many attempts a waiting event is dead-lettered, and the events behind it are processed."""
    pause_seconds: float = PAUSE_SECONDS

    async def run(self) -> None:
        """Scan until cancelled. Pause if too many of the retries end as dead letters.

        If the database is unavailable, the next scan finds the same events.
        """
        duty = DutyCycle(UNSCHEDULED_DUTY)
        while True:
            has_more = False
            try:
                has_more = await self.scan(duty)
            except ServiceUnavailable as error:
                self.consumer.logger.warning("Retry scan failed, retrying later", code=error.code, reason=error.message)
            except DlqRateExceeded as limit:
                await self._pause(str(limit))
            if not has_more:
                await asyncio.sleep(self.scan_interval)

    async def _pause(self, reason: str) -> None:
        """Retry nothing for a while. The live flow goes on; the waiting events wait, and those behind them."""
        consumer = self.consumer
        consumer.logger.error(
            "Retries paused: too many dead letters", code="TOO_MANY_DEAD", reason=reason, seconds=self.pause_seconds
        )
        consumer.metrics.retries_paused(True)
        await asyncio.sleep(self.pause_seconds)
        consumer.metrics.retries_paused(False)
        consumer.dlq_limit.reset()

    async def scan(self, duty: DutyCycle | None = None) -> bool:
        """Process each due queue, and return True if more may be due. Raise `ServiceUnavailable`, `DlqRateExceeded`.

        `duty` limits the search for unscheduled heads.
        """
        heads = await self._due_heads(duty or DutyCycle(1.0))
        random.shuffle(heads)  # concurrent scanners begin at different queues and rarely wait for each other
        completed = 0
        for head in heads:
            try:
                completed += await self._process_queue(head)
            except DatabaseConflict:
                continue  # the live flow was at the same rows: the head is still due
        return completed > 0 and len(heads) >= HEADS_PER_SCAN

    async def _due_heads(self, duty: DutyCycle) -> list[QueueHead]:
        consumer = self.consumer
        async with consumer.database.read_connection() as connection:
            heads = await inbox_retries.due_heads(connection, consumer.group, consumer.clock(), HEADS_PER_SCAN)
            if duty.is_due():
                with duty.measured():
                    heads += await inbox_retries.unscheduled_heads(connection, consumer.group, HEADS_PER_SCAN)
        return heads

    async def _process_queue(self, head: QueueHead) -> int:
        """Return how many events were completed before one had to wait or the queue had its share of this scan."""
        completed = 0
        while completed < EVENTS_PER_QUEUE:
            count, limit = await self._process_events(head, EVENTS_PER_TRANSACTION)
            completed += count
            if count < limit:
                break
        return completed

    async def _process_events(self, head: QueueHead, limit: int) -> tuple[int, int]:
        """Process a part of the queue, and return how many events were completed of how many at most.

        If an event fails, process half as many; the first one alone is dead-lettered if it fails.
        """
        try:
            return await self._process_once(head, limit), limit
        except NOT_CAUSED_BY_EVENTS:
            raise
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            if limit > 1:
                return await self._process_events(head, limit // 2)
            return await self._process_once(head, 1, describe_error(error)), 1

    async def _process_once(self, head: QueueHead, max_events: int, failure: Outcome | None = None) -> int:
        tracer, group = self.consumer.tracer, self.consumer.group
        span = tracer.sample(f"retry {group}", SpanKind.CONSUMER) if tracer else None
        traceparent = span.traceparent if span else ""
        policy = RetryPolicy(self.consumer, head, max_events, self.max_attempts, failure, traceparent)
        completed, error = 0, "NOT_PROCESSED"
        try:
            completed = len((await BatchProcessor(self.consumer, policy).process_once(())).new)
            error = ""
        finally:
            if span:
                span.end(
                    {
                        "messaging.consumer.group.name": group,
                        "safevideo.events.completed": completed,
                        "safevideo.request_id": policy.first_request_id,
                    },
                    error,
                )
        return completed
