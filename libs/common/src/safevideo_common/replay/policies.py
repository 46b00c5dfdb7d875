"""The effect of a forced replay: every event is decided again, whatever the inbox says of it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, Generic, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.inbox.dead_letters import to_dead_letters
from safevideo_common.inbox.decisions import (
    BLOCKED_BY_EARLIER_EVENT,
    Decided,
    Parsed,
    decide,
    decide_in_order,
    events_of,
)
from safevideo_common.inbox.handler import Delivery, Event, ReplayableHandler, States
from safevideo_common.inbox.metrics import Stopwatch
from safevideo_common.inbox.processor import (
    BatchResult,
    ConsumerContext,
    entry_of,
    first_deliveries,
    ids_of,
    subjects_of,
)
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.outbox import store as outbox_store

# The effect of a replay that is not forced: what the inbox lacks is applied as if it came now.


async def missing_only(
    consumer: ConsumerContext[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
) -> BatchResult[States]:
    """An `Effect`. What the inbox has is passed over: it is not locked, and not counted as a duplicate.

    Where the live flow decides one of the events meanwhile, its row is there before ours: a `DatabaseConflict`.
    """
    known = await inbox_rows.existing_ids(tx, consumer.group, ids_of(parsed))
    fresh, _ = first_deliveries(parsed, known)
    states = await consumer.handler.load(tx, events_of(fresh))
    parked = await inbox_rows.blocked_subjects(tx, consumer.group, subjects_of(fresh))
    watch.lap("load")
    decided = decide_in_order(consumer.handler, states, fresh, parked)
    consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in decided])
    watch.lap("decide")
    await consumer.handler.store(tx, states)
    await inbox_rows.insert_rows(tx, [entry_of(consumer, *each) for each in decided])
    told = [*consumer.handler.changes(states), *to_dead_letters(consumer.group, decided)]
    await outbox_store.record(tx, told, consumer.clock())
    watch.lap("store")
    return BatchResult(states, decided, 0, bool(told))


# What becomes of events that are replayed, decided in order: the same for a real run and for a dry one.


class ReplayOutcome(NamedTuple):
    """A delivery, what became of it, and whether that is the first word on its event."""

    delivery: Delivery
    outcome: Outcome | None
    """None: it was passed over, for the inbox has it."""
    is_first: bool


class SeenIds(Protocol):
    """Ids of events that the inbox has, or will have by then."""

    def __contains__(self, event_id: object) -> bool: ...

    def add(self, event_id: str) -> None:
        """One more."""
        ...


def classify(
    decide: Callable[[Parsed[Event]], Outcome],
    parsed: Iterable[Parsed[Event]],
    seen: SeenIds,
    parked: set[str],
    *,
    is_forced: bool,
) -> Iterator[ReplayOutcome]:
    """In order. `parked` are the performers with an event that waits: new ones of theirs queue behind it, as ever.

    What the inbox has waits in no queue here: when it is decided again, the stamps say what is left of it.
    """
    for each in parsed:
        event_id, subject = each.delivery.envelope.id, each.delivery.envelope.subject
        is_first = event_id not in seen
        seen.add(event_id)
        if not is_first:
            yield ReplayOutcome(each.delivery, decide(each) if is_forced else None, is_first=False)
            continue
        outcome = BLOCKED_BY_EARLIER_EVENT if subject in parked else decide(each)
        if subject is not None and outcome.status is Status.WAITING:
            parked.add(subject)
        yield ReplayOutcome(each.delivery, outcome, is_first=True)


ID_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Force(Generic[Event, States]):
    """An `Effect`. Missing inbox rows are added, those that are there keep their word; only corrections are told."""

    handler: ReplayableHandler[Event, States]
    job_id: int

    async def __call__(
        self,
        consumer: ConsumerContext[Event, States],
        tx: AsyncConnection,
        parsed: Sequence[Parsed[Event]],
        watch: Stopwatch,
    ) -> BatchResult[States]:
        """See `Effect`. Done again, it changes nothing."""
        states = await self.handler.load(tx, events_of(parsed))
        known = await inbox_rows.existing_ids(tx, consumer.group, ids_of(parsed))
        fresh, _ = first_deliveries(parsed, known)
        parked = await inbox_rows.blocked_subjects(tx, consumer.group, subjects_of(fresh))
        watch.lap("load")
        decided = classify(partial(decide, self.handler, states), parsed, known, parked, is_forced=True)
        new, again = _by_novelty(
            (each.is_first, Decided(each.delivery, each.outcome)) for each in decided if each.outcome
        )
        consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in new])
        watch.lap("decide")
        await self.handler.store(tx, states)
        await inbox_rows.insert_rows(tx, [entry_of(consumer, *each) for each in new])
        told = [*with_job_id(self.handler.corrections(states), self.job_id), *to_dead_letters(consumer.group, new)]
        await outbox_store.record(tx, told, consumer.clock())
        watch.lap("store")
        return BatchResult(states, new, 0, bool(told), again)


def with_job_id(corrections: Iterable[Message], job_id: int) -> Iterator[Message]:
    """With ids of their own: under its cause's id the event may have told something else already."""
    for message in corrections:
        headers = ((name, _id(value, job_id) if name == "ce_id" else value) for name, value in message.headers)
        yield message._replace(headers=tuple(headers))


def _id(cause: bytes, job_id: int) -> bytes:
    """The cause's id and the job's; of one that would be too long it is a hash, which is as much its own."""
    suffix = b"#replay-%d" % job_id
    kept = cause if len(cause) + len(suffix) <= ID_LENGTH else sha256(cause).hexdigest().encode()
    return kept + suffix


def _by_novelty(decided: Iterable[tuple[bool, Decided]]) -> tuple[list[Decided], list[Decided]]:
    new: list[Decided] = []
    again: list[Decided] = []
    for is_first, each in decided:
        (new if is_first else again).append(each)
    return new, again
