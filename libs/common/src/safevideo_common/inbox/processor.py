"""Applying a batch: inbox rows and states in one transaction."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Generic, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import PartitionClaim, PartitionsLost
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status, dead
from safevideo_common.errors import SafeVideoError, ServiceUnavailable
from safevideo_common.inbox.dead_letters import DlqLimit, DlqRateExceeded, to_dead_letters
from safevideo_common.inbox.decisions import (
    BLOCKED_BY_EARLIER_EVENT,
    Decided,
    Parsed,
    decide_in_order,
    events_of,
    parse_all,
)
from safevideo_common.inbox.handler import Delivery, Event, EventHandler, States
from safevideo_common.inbox.metrics import ConsumerMetrics, Stopwatch
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.resilience.backoff import Backoff

# How far a member is behind, for whoever does other work beside it.


UNNOTICED: Final = 1000
"""Records: two batches. Less than that comes and goes with every burst."""


class LagTrend:
    """The latest two looks of a member at what lies ahead of it."""

    def __init__(self) -> None:
        self.latest = 0
        self._before = 0

    def sees(self, records: int) -> None:
        """So many lie ahead now; 0 when that is not known, or when nobody consumes."""
        self._before, self.latest = self.latest, records

    @property
    def is_growing(self) -> bool:
        """Whether the member falls behind: then other work had better wait."""
        return self.latest > UNNOTICED and self.latest > self._before


# One consumer group's parts, and what it says about the events that it has dealt with.


@dataclass(frozen=True, slots=True)
class ConsumerContext(Generic[Event, States]):
    """What the live flow and the retries of one group share."""

    group: str
    handler: EventHandler[Event, States]
    database: Database
    retry: Backoff
    """Of events that must wait, in seconds."""
    clock: Clock
    log: FilteringBoundLogger
    metrics: ConsumerMetrics
    dead_share: DlqLimit
    outbox_stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the outbox has got something to relay."""
    lag: LagTrend = field(default_factory=LagTrend)

    def report(self, decided: Sequence[tuple[str, Outcome]], duplicates: int = 0) -> None:
        """Count and log what is committed: event ids with what became of them. Each death is an error line."""
        outcomes = [outcome for _, outcome in decided]
        self.dead_share.note(asyncio.current_task(), outcomes)
        for event_id, outcome in decided:
            if outcome.status is Status.DEAD:
                self.log.error("Event is dead", code=outcome.code, event_id=event_id, reason=outcome.reason)
        self.metrics.decided(outcomes, duplicates)


def describe_outcome(error: Exception) -> Outcome:
    """`dead`, with the error's own code and message where those are fit to be shown, else with its kind alone."""
    if isinstance(error, SafeVideoError):
        return dead(error.code, error.message)
    return dead("HANDLER_FAILED", type(error).__name__)


# What a batch does within a transaction: states, inbox rows and what is told of it, or nothing of all that.


KEEPS_PAYLOAD: Final = frozenset({Status.WAITING, Status.DEAD})
"""What may still be tried: its body must be at hand. Of all else the log has it."""


class BatchResult(NamedTuple, Generic[States]):
    """What a transaction has written, once it is committed."""

    states: States
    decided: Sequence[Decided]
    repeated: int
    """Deliveries of events that the inbox had, or that came before in the same batch."""
    has_told: bool
    """Whether the outbox has got something."""
    again: Sequence[Decided] = ()
    """Events that were decided again, though the inbox has a word on them already."""


class ProcessingPolicy(Protocol[Event, States]):
    """The work of one transaction. It may be run again from the start, in another one."""

    async def __call__(
        self,
        consumer: ConsumerContext[Event, States],
        tx: AsyncConnection,
        parsed: Sequence[Parsed[Event]],
        watch: Stopwatch,
    ) -> BatchResult[States]:
        """Raises `TooManyDead`, what the handler raises, and the errors of `database/faults.py`."""
        ...


async def process_live(
    consumer: ConsumerContext[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
) -> BatchResult[States]:
    """Each event has its effect unless the inbox says that it has had one; then it is counted as a duplicate."""
    # Of redelivered events too: what follows a commit may not have followed the first one.
    states = await consumer.handler.load(tx, events_of(parsed))
    known = await inbox_rows.existing_ids(tx, consumer.group, ids_of(parsed))
    fresh, repeated = first_deliveries(parsed, known)
    parked = await inbox_rows.blocked_subjects(tx, consumer.group, subjects_of(fresh))
    watch.lap("load")
    decided = decide_in_order(consumer.handler, states, fresh, parked)
    consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in decided])
    watch.lap("decide")
    await consumer.handler.store(tx, states)
    await inbox_rows.insert_rows(tx, [entry_of(consumer, *each) for each in decided])
    await inbox_rows.count_duplicates(tx, [entry_of(consumer, each.delivery, APPLIED) for each in repeated])
    told = [*consumer.handler.changes(states), *to_dead_letters(consumer.group, decided)]
    await outbox_store.record(tx, told, consumer.clock())
    watch.lap("store")
    return BatchResult(states, decided, len(repeated), bool(told))


def entry_of(consumer: ConsumerContext[Event, States], delivery: Delivery, outcome: Outcome) -> InboxEntry:
    """The row of an event that has just been decided for the first time."""
    now = consumer.clock()
    is_head = outcome.status is Status.WAITING and outcome is not BLOCKED_BY_EARLIER_EVENT
    return InboxEntry(
        consumer_group=consumer.group,
        event_id=delivery.envelope.id,
        event_type=delivery.envelope.type,
        performer_id=delivery.envelope.subject,
        source_topic=delivery.topic,
        source_partition=delivery.partition,
        source_offset=delivery.offset,
        occurred_at=delivery.envelope.time,
        received_at=delivery.received_at,
        decided_at=now,
        status=outcome.status,
        reason=outcome.reason,
        tries=int(is_head),
        next_try_at=now + timedelta(seconds=consumer.retry.delay(1)) if is_head else None,
        request_id=delivery.envelope.request_id,
        payload=delivery.body if outcome.status in KEEPS_PAYLOAD else None,
    )


def first_deliveries(
    parsed: Iterable[Parsed[Event]], known: Collection[str]
) -> tuple[list[Parsed[Event]], list[Parsed[Event]]]:
    """The first delivery of each event that is not `known`, and all the others."""
    seen = set(known)
    fresh: list[Parsed[Event]] = []
    repeated: list[Parsed[Event]] = []
    for each in parsed:
        (repeated if each.delivery.envelope.id in seen else fresh).append(each)
        seen.add(each.delivery.envelope.id)
    return fresh, repeated


def ids_of(parsed: Iterable[Parsed[Event]]) -> list[str]:
    """The ids of the events."""
    return [each.delivery.envelope.id for each in parsed]


def subjects_of(parsed: Iterable[Parsed[Event]]) -> set[str]:
    """The performers whom the events are about."""
    return {subject for each in parsed if (subject := each.delivery.envelope.subject) is not None}


NOT_CAUSED_BY_EVENTS: Final = (ServiceUnavailable, PartitionsLost, DlqRateExceeded)
"""Nothing of it is applied then, and it can be applied as it is when the time has come."""

Begin = Callable[[], AbstractAsyncContextManager[AsyncConnection]]


@dataclass(frozen=True, slots=True)
class BatchProcessor(Generic[Event, States]):
    """Gives each delivery its effect and its row in the inbox, for one consumer group."""

    consumer: ConsumerContext[Event, States]
    effect: ProcessingPolicy[Event, States] = process_live
    begin: Begin | None = None
    """The transaction of a batch, where it is to hold more than that."""

    async def apply(self, deliveries: Sequence[Delivery], claim: PartitionClaim) -> None:
        """Apply a batch, in order. What was applied before is counted as a duplicate and changes nothing.

        Raises `ServiceUnavailable` when the database is away: the batch can be applied again; `PartitionsLost` when the
        claim to it is void, and `DlqRateExceeded`. Any other failure lies in one of the events. The batch is bisected
        until that event is alone, so that it costs only itself.
        """
        try:
            await self._apply_despite_conflicts(parse_all(self.consumer.handler, deliveries), claim)
        except NOT_CAUSED_BY_EVENTS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the fault of one of its events
            if len(deliveries) == 1:
                await self._apply_despite_conflicts([Parsed(deliveries[0], describe_outcome(error))], claim)
            else:
                middle = len(deliveries) // 2
                await self.apply(deliveries[:middle], claim)
                await self.apply(deliveries[middle:], claim)

    async def _apply_despite_conflicts(self, parsed: Sequence[Parsed[Event]], claim: PartitionClaim) -> None:
        await retry_on_conflict(partial(self._apply_once, parsed, claim))

    async def _apply_once(self, parsed: Sequence[Parsed[Event]], claim: PartitionClaim) -> None:
        claim.check()
        consumer = self.consumer
        watch = Stopwatch(consumer.metrics.stage)
        begin = self.begin or consumer.database.transaction
        async with begin() as tx:
            done = await self.effect(consumer, tx, parsed, watch)
            claim.check()
        watch.lap("commit")
        if done.has_told:
            consumer.outbox_stirred.set()
        await consumer.handler.after_commit(done.states)
        consumer.report([(each.delivery.envelope.id, each.outcome) for each in done.decided], done.repeated)
