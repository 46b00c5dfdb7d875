"""The batch processor: the one place that gives events their effect.

    parse ──▶ load ──▶ decide ──▶ check the DLQ limit ──▶ store ──▶ inbox rows ──▶ outbox ──▶ commit ──▶ after_commit
              └──────────────────────────── one transaction ───────────────────────────────────┘

The live flow, the retry scan and both modes of a replay use it. A `ProcessingPolicy` is what differs between them.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final, Generic, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import NullClaim, PartitionClaim, PartitionsLost
from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status, dead, waiting
from safevideo_common.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    DataRejected,
    RowLocked,
    SafeVideoError,
    ServiceUnavailable,
)
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded, to_dead_letter
from safevideo_common.inbox.handler import Delivery, Event, EventHandler, States, without_envelope
from safevideo_common.inbox.identity import ID_CONFLICT, body_digest, identify
from safevideo_common.inbox.metrics import ConsumerMetrics, Stopwatch
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import ExistingRow, InboxEntry
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import SpanKind, Tracer
from safevideo_common.outbox import store as outbox_store
from safevideo_common.resilience.backoff import Backoff

BLOCKED_BY_EARLIER_EVENT: Final = waiting("BLOCKED_BY_EARLIER_EVENT", "an earlier event of this performer is waiting")
"""The event is undecided. It has no retry time: it is due when it is the first of its performer's queue."""
ROW_LOCKED: Final = waiting("ROW_LOCKED", "another transaction keeps the row of this performer locked")
"""So one transaction that holds a row for long delays the events of one performer, and not its partition."""
KEEPS_PAYLOAD: Final = frozenset({Status.WAITING, Status.DEAD})
"""An event that may be retried needs its body. The bodies of all other events are in the broker."""
NOT_CAUSED_BY_EVENTS: Final = (ServiceUnavailable, PartitionsLost, DlqRateExceeded)
"""Nothing of the batch is applied, and the same batch can succeed later."""
MAX_NAMED: Final = 10
"""Performers in a log line."""
NO_CLAIM: Final = NullClaim()
PERSON_ERASED: Final = Outcome(Status.IGNORED, "PERSON_ERASED: the person of this event was erased")
_UNSTORABLE: Final = dead("ENVELOPE_INVALID", "the database refuses the row of this record")
_BODY_UNSTORABLE: Final = dead("ENVELOPE_INVALID", "the database refuses the bytes of this record; the topic has them")


@dataclass(frozen=True, slots=True)
class ConsumerContext(Generic[Event, States]):
    """The parts of one consumer group that each of its processors needs."""

    group: str
    handler: EventHandler[Event, States]
    database: Database
    retry_backoff: Backoff
    """The delays, in seconds, between two attempts at a waiting event."""
    clock: Clock
    logger: FilteringBoundLogger
    metrics: ConsumerMetrics
    dlq_limit: DlqLimit
    outbox_wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the outbox has a new message."""
    tracer: Tracer | None = None


class Parsed(NamedTuple, Generic[Event]):
    """A delivery with its event, or with its outcome if it has no event."""

    delivery: Delivery
    result: Event | Outcome


class Decided(NamedTuple):
    """A delivery with its outcome, and the number of attempts at its event."""

    delivery: Delivery
    outcome: Outcome
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Decisions:
    """The result of a batch. Each delivery is in one of the lists, in order."""

    new: list[Decided] = field(default_factory=list)
    """Events whose outcome is new to the inbox."""
    unchanged: list[Decided] = field(default_factory=list)
    """Events that were decided again and keep their status in the inbox."""
    settled: list[Decided] = field(default_factory=list)
    """Waiting and dead events that were decided again, with their final outcome."""
    repeated: list[Delivery] = field(default_factory=list)
    """Not decided: the inbox has the event, or it came earlier in this batch."""


class LoadedBatch(NamedTuple, Generic[Event, States]):
    """A batch and everything in the database that its decisions depend on."""

    parsed: Sequence[Parsed[Event]]
    states: States
    existing: Mapping[str, ExistingRow]
    """The rows of the events that the inbox has."""
    blocked_subjects: set[str]


class ProcessingPolicy(Protocol[Event, States]):
    """The steps of a transaction that differ between live consumption, retries and replays."""

    @property
    def counts_duplicates(self) -> bool:
        """Return True if repeated deliveries are duplicates."""
        ...

    @property
    def holds_locked_events(self) -> bool:
        """Return True if new events of a performer whose row is locked may wait in the inbox."""
        ...

    async def load(self, tx: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> LoadedBatch[Event, States]:
        """Load and lock the states, and read what the inbox has of the events."""
        ...

    def decide(self, batch: LoadedBatch[Event, States]) -> Decisions:
        """Decide the batch in memory."""
        ...

    async def write_rows(self, tx: AsyncConnection, decisions: Decisions) -> None:
        """Write the decisions to the inbox."""
        ...

    def messages(self, states: States, decisions: Decisions) -> Sequence[Message]:
        """Return the change messages to publish."""
        ...


class SeenIds(Protocol):
    """The ids of events that the inbox has, or has after this batch."""

    def __contains__(self, event_id: object) -> bool: ...

    def add(self, event_id: str) -> None:
        """Add an id."""
        ...


def parse_all(handler: EventHandler[Event, States], deliveries: Iterable[Delivery]) -> list[Parsed[Event]]:
    """Parse the body of each delivery."""
    return [Parsed(delivery, delivery.fault or handler.parse(delivery)) for delivery in deliveries]


def events_of(parsed: Iterable[Parsed[Event]]) -> list[Event]:
    """Return the events, without deliveries that have an outcome already."""
    return [each.result for each in parsed if not isinstance(each.result, Outcome)]


async def without_erased(connection: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> Sequence[Parsed[Event]]:
    """Return the deliveries, those of erased persons with the outcome `PERSON_ERASED`: whatever brought them back."""
    erased_ids = await erasures.erased(connection, IdentifierKind.PERFORMER, subjects_of(parsed))
    if not erased_ids:
        return parsed
    return [
        Parsed[Event](each.delivery, PERSON_ERASED) if each.delivery.envelope.subject in erased_ids else each
        for each in parsed
    ]


async def identify_all(
    connection: AsyncConnection, consumer: ConsumerContext[Event, States], parsed: Sequence[Parsed[Event]]
) -> tuple[list[Parsed[Event]], dict[str, ExistingRow]]:
    """Return the deliveries with the ids of their inbox rows, and the rows that exist."""
    identified, existing = await identify(connection, consumer.group, [each.delivery for each in parsed])
    again = [
        each if delivery is each.delivery else _parsed_again(consumer.handler, delivery, each.result)
        for each, delivery in zip(parsed, identified, strict=True)
    ]
    return again, existing


def parsed_as_first(
    handler: EventHandler[Event, States], each: Parsed[Event], row: ExistingRow | None
) -> Parsed[Event]:
    """Return the event as it was decided first: a further record would win ties that the first one has lost."""
    if row is None or row.source_offset == each.delivery.offset or isinstance(each.result, Outcome):
        return each
    return Parsed(each.delivery, handler.parse(each.delivery._replace(offset=row.source_offset)))


def _parsed_again(handler: EventHandler[Event, States], delivery: Delivery, result: Event | Outcome) -> Parsed[Event]:
    """Parse a delivery whose id has changed: the event has the id of its cause."""
    if isinstance(result, Outcome):
        return Parsed(delivery, delivery.fault or result)
    return Parsed(delivery, delivery.fault or handler.parse(delivery))


def subjects_of(parsed: Iterable[Parsed[Event]]) -> set[str]:
    """Return the performers of the events."""
    return {subject for each in parsed if (subject := each.delivery.envelope.subject) is not None}


def decide(handler: EventHandler[Event, States], states: States, parsed: Parsed[Event]) -> Outcome:
    """Return the outcome of one delivery."""
    return parsed.result if isinstance(parsed.result, Outcome) else handler.decide(states, parsed.result)


def decide_in_order(
    decide: Callable[[Parsed[Event]], Outcome],
    parsed: Iterable[Parsed[Event]],
    seen_ids: SeenIds,
    blocked: set[str],
    *,
    decide_again: bool = False,
) -> Decisions:
    """Decide the deliveries whose ids are not in `seen_ids`, and with `decide_again` the others too.

    A new event of a performer in `blocked` waits behind the earlier event of that performer. A performer whose event
    must wait joins `blocked`. An event that is decided again never waits: its write version limits what it changes. A
    further delivery within the batch is not decided: it would come later in the order than the first one.
    """
    decisions = Decisions()
    decided: set[str] = set()
    for each in parsed:
        event_id, subject = each.delivery.envelope.id, each.delivery.envelope.subject
        if event_id in decided:
            decisions.repeated.append(each.delivery)
            continue
        decided.add(event_id)
        if event_id not in seen_ids:
            seen_ids.add(event_id)
            outcome = BLOCKED_BY_EARLIER_EVENT if subject in blocked else decide(each)
            if subject is not None and outcome.status is Status.WAITING:
                blocked.add(subject)
            decisions.new.append(Decided(each.delivery, outcome))
        elif decide_again:
            decisions.unchanged.append(Decided(each.delivery, decide(each)))
        else:
            decisions.repeated.append(each.delivery)
    return decisions


@dataclass(frozen=True, slots=True)
class LivePolicy(Generic[Event, States]):
    """Live consumption: apply new events, count repeated deliveries as duplicates. The base of the replay policies."""

    consumer: ConsumerContext[Event, States]
    counts_duplicates: ClassVar[bool] = True
    holds_locked_events: ClassVar[bool] = True

    async def load(self, tx: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> LoadedBatch[Event, States]:
        """Load the states of the events to decide, and of repeated ones: `after_commit` may be missing after those.

        A new event that must wait behind another needs no state, and a row that is locked does not delay it. If that
        other one is decided meanwhile, the next scan finds the new event as the head of its queue.
        """
        group = self.consumer.group
        parsed, existing = await identify_all(tx, self.consumer, parsed)
        new = [each for each in parsed if each.delivery.envelope.id not in existing]
        blocked = await inbox_rows.blocked_subjects(tx, group, subjects_of(new))
        needed = (
            each
            for each in parsed
            if each.delivery.envelope.subject not in blocked or each.delivery.envelope.id in existing
        )
        states = await self.consumer.handler.load(tx, events_of(needed))
        return LoadedBatch(parsed, states, existing, blocked)

    def decide(self, batch: LoadedBatch[Event, States]) -> Decisions:
        """Decide the new events."""
        decide_one = partial(decide, self.consumer.handler, batch.states)
        return decide_in_order(decide_one, batch.parsed, set(batch.existing), batch.blocked_subjects)

    async def write_rows(self, tx: AsyncConnection, decisions: Decisions) -> None:
        """Insert the new events and count the duplicates."""
        await inbox_rows.insert_rows(tx, [self._entry(each.delivery, each.outcome) for each in decisions.new])
        if self.counts_duplicates:
            repeated = [self._entry(each, APPLIED)._replace(dedup_sha256=None) for each in decisions.repeated]
            await inbox_rows.count_duplicates(tx, repeated)

    def messages(self, states: States, decisions: Decisions) -> Sequence[Message]:  # noqa: ARG002
        """Return a message for each applied event."""
        return self.consumer.handler.changes(states)

    def _entry(self, delivery: Delivery, outcome: Outcome) -> InboxEntry:
        now = self.consumer.clock()
        is_head = outcome.status is Status.WAITING and outcome is not BLOCKED_BY_EARLIER_EVENT
        digest = body_digest(delivery)
        return InboxEntry(
            consumer_group=self.consumer.group,
            event_id=delivery.envelope.id,
            event_type=delivery.envelope.type,
            performer_id=delivery.envelope.subject,
            source_topic=delivery.topic,
            source_partition=delivery.partition,
            source_offset=delivery.offset,
            occurred_at=delivery.envelope.time,
            received_at=min(delivery.received_at, now),  # another producer's time would keep the row for ever
            decided_at=now,
            status=outcome.status,
            reason=outcome.reason,
            tries=int(is_head),
            next_try_at=now + timedelta(seconds=self.consumer.retry_backoff.delay(1)) if is_head else None,
            request_id=delivery.envelope.request_id,
            payload=delivery.body if outcome.status in KEEPS_PAYLOAD else None,
            body_sha256=digest,
            dedup_sha256=None if delivery.envelope.is_id_signed else digest,
            fields=outcome.fields,
        )


AroundCommit = Callable[[AsyncConnection, Decisions], AbstractAsyncContextManager[None]]
"""Entered as the last step of the transaction, left after its commit or rollback."""


@dataclass(frozen=True, slots=True)
class BatchProcessor(Generic[Event, States]):
    """Gives each delivery its effect and its inbox row, in one transaction with the outbox messages."""

    consumer: ConsumerContext[Event, States]
    policy: ProcessingPolicy[Event, States]
    around_commit: AroundCommit | None = None
    interrupted_by: tuple[type[Exception], ...] = ()
    """Errors of `around_commit` that end the processing and are not caused by an event."""

    async def process(self, deliveries: Sequence[Delivery], claim: PartitionClaim = NO_CLAIM) -> None:
        """Process a batch in order.

        Raise `ServiceUnavailable` if the database is unavailable: the same batch can be processed again. Raise
        `PartitionsLost` if `claim` is no longer valid, `DlqRateExceeded`, and `interrupted_by`. An event causes every
        other error. Then bisect the batch until that event is alone and dead-letter it.
        """
        if self.consumer.tracer is None:
            await self._process(deliveries, claim)
        else:
            await self._process_traced(self.consumer.tracer, deliveries, claim)

    async def _process_traced(self, tracer: Tracer, deliveries: Sequence[Delivery], claim: PartitionClaim) -> None:
        """Process a batch with a span for each of its sampled events. What an event causes is below its span."""
        group, traceparents = self.consumer.group, [each.envelope.traceparent for each in deliveries]
        spans = tracer.follow_all(f"process {group}", SpanKind.CONSUMER, f"transaction {group}", traceparents)
        if spans is None:
            await self._process(deliveries, claim)
            return
        error = "NOT_PROCESSED"  # the batch comes again
        try:
            await self._process(
                [
                    each
                    if span is None
                    else each._replace(envelope=each.envelope._replace(traceparent=span.traceparent))
                    for each, span in zip(deliveries, spans.items, strict=True)
                ],
                claim,
            )
            error = ""
        finally:
            spans.end({"messaging.consumer.group.name": group}, error)

    async def _process(self, deliveries: Sequence[Delivery], claim: PartitionClaim) -> None:
        not_caused_by_events: tuple[type[Exception], ...] = (*NOT_CAUSED_BY_EVENTS, *self.interrupted_by)
        try:
            await self._process_around_locked_rows(parse_all(self.consumer.handler, deliveries), claim)
        except not_caused_by_events:
            raise
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            if len(deliveries) == 1:
                await self._dead_letter(deliveries[0], describe_error(error), claim)
            else:
                middle = len(deliveries) // 2
                await self._process(deliveries[:middle], claim)
                await self._process(deliveries[middle:], claim)

    async def _process_around_locked_rows(self, parsed: Sequence[Parsed[Event]], claim: PartitionClaim) -> None:
        """Process a batch. After a wait for a locked row, let the events of its performer wait in the inbox."""

        async def attempt() -> None:
            nonlocal parsed
            try:
                await self.process_once(parsed, claim)
            except RowLocked:
                if self.policy.holds_locked_events:
                    parsed = await self._hold_locked_events(parsed)
                raise

        await retry_on_conflict(attempt)

    async def _hold_locked_events(self, parsed: Sequence[Parsed[Event]]) -> Sequence[Parsed[Event]]:
        consumer = self.consumer
        async with consumer.database.transaction() as tx:
            ids = {id(event) for event in await consumer.handler.locked(tx, events_of(parsed))}
        locked = [each for each in parsed if id(each.result) in ids]
        if locked:
            performers = sorted(subjects_of(locked))
            consumer.logger.warning(
                "Events wait for a locked row", code="ROW_LOCKED", events=len(locked), performers=performers[:MAX_NAMED]
            )
        return [Parsed(each.delivery, ROW_LOCKED) if id(each.result) in ids else each for each in parsed]

    async def _dead_letter(self, delivery: Delivery, outcome: Outcome, claim: PartitionClaim) -> None:
        """Give an event that fails by itself the outcome `dead`. If the database refuses its row, make one up.

        Raise `DatabaseUnavailable` if the database refuses each row: then the values are not the cause.
        """
        rows = (
            Parsed[Event](delivery, outcome),
            Parsed[Event](without_envelope(delivery), _UNSTORABLE),
            Parsed[Event](without_envelope(delivery)._replace(body=b"", record=None), _BODY_UNSTORABLE),
        )
        for row in rows:
            with suppress(DataRejected):
                await retry_on_conflict(partial(self.process_once, [row], claim))
                return
        raise DatabaseUnavailable("the database refuses each row of the inbox")

    async def process_once(self, parsed: Sequence[Parsed[Event]], claim: PartitionClaim = NO_CLAIM) -> Decisions:
        """Process a batch in one transaction, without retry or bisection. Also raise what the handler raises."""
        consumer, policy = self.consumer, self.policy
        claim.check()
        watch = Stopwatch(consumer.metrics.stage)
        batch: LoadedBatch[Event, States] | None = None
        try:
            async with AsyncExitStack() as around, consumer.database.transaction() as tx:
                batch = await policy.load(tx, await without_erased(tx, parsed))
                watch.lap("load")
                decisions = policy.decide(batch)
                consumer.dlq_limit.check(asyncio.current_task(), [each.outcome for each in decisions.new])
                watch.lap("decide")
                await consumer.handler.store(tx, batch.states)
                await policy.write_rows(tx, decisions)
                messages = [*policy.messages(batch.states, decisions), *self._dead_letters(decisions)]
                await outbox_store.record(tx, messages, consumer.clock())
                watch.lap("store")
                if self.around_commit is not None:
                    await around.enter_async_context(self.around_commit(tx, decisions))
                claim.check()
        except DatabaseConflict:
            raise
        except ServiceUnavailable:
            if batch is not None:  # the commit may be done although its answer is lost
                await consumer.handler.after_commit(batch.states)
            raise
        watch.lap("commit")
        if messages:
            consumer.outbox_wakeup.set()
        await consumer.handler.after_commit(batch.states)
        self._report(decisions)
        return decisions

    def _dead_letters(self, decisions: Decisions) -> list[Message]:
        dead_events = (each for each in decisions.new if each.outcome.status is Status.DEAD)
        return [to_dead_letter(self.consumer.group, *each) for each in dead_events]

    def _report(self, decisions: Decisions) -> None:
        """Count and log the committed outcomes."""
        outcomes = [each.outcome for each in decisions.new]
        self.consumer.dlq_limit.record(asyncio.current_task(), outcomes)
        outcomes += [each.outcome for each in decisions.settled]
        for delivery, outcome, _ in decisions.new:
            if outcome.status is Status.DEAD:
                self.consumer.logger.error(
                    "Event dead-lettered",
                    code=outcome.code,
                    event_id=delivery.envelope.id,
                    event_type=delivery.envelope.type,
                    performer_id=delivery.envelope.subject,
                    request_id=delivery.envelope.request_id or None,
                    reason=outcome.reason,
                )
        self.consumer.metrics.id_conflicts(outcomes.count(ID_CONFLICT))
        duplicates = len(decisions.repeated) if self.policy.counts_duplicates else 0
        # A webhook that was sent again is applied since the first one is.
        finished = list(decisions.repeated) if self.policy.counts_duplicates else []
        for delivery, outcome, _ in (*decisions.new, *decisions.settled):
            if outcome.status not in KEEPS_PAYLOAD:
                finished.append(delivery)
        self.consumer.metrics.latency(map(_received_at, finished))
        self.consumer.metrics.decided(outcomes, duplicates)


def _received_at(delivery: Delivery) -> float:
    return delivery.envelope.received_at or delivery.received_at.timestamp()


def describe_error(error: Exception) -> Outcome:
    """Return `dead` with the error's own code and message if they may be shown, otherwise with its type."""
    if isinstance(error, SafeVideoError):
        return dead(error.code, error.message)
    return dead("HANDLER_FAILED", type(error).__name__)
