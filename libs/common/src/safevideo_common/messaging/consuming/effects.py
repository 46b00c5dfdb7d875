"""What a batch does within a transaction: states, inbox rows and what is told of it, or nothing of all that."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Final, Generic, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import inbox, outbox
from safevideo_common.database.inbox import InboxEntry
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status
from safevideo_common.messaging.consuming.consumer import Consumer
from safevideo_common.messaging.consuming.dead_letters import dead_copies
from safevideo_common.messaging.consuming.deciding import (
    BEHIND_ANOTHER,
    Decided,
    Parsed,
    decide_in_order,
    events_of,
)
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch

KEEPS_PAYLOAD: Final = frozenset({Status.WAITING, Status.DEAD})
"""What may still be tried: its body must be at hand. Of all else the log has it."""


class Done(NamedTuple, Generic[States]):
    """What a transaction has written, once it is committed."""

    states: States
    decided: Sequence[Decided]
    repeated: int
    """Deliveries of events that the inbox had, or that came before in the same batch."""
    has_told: bool
    """Whether the outbox has got something."""
    again: Sequence[Decided] = ()
    """Events that were decided again, though the inbox has a word on them already."""


class Effect(Protocol[Event, States]):
    """The work of one transaction. It may be run again from the start, in another one."""

    async def __call__(
        self, consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
    ) -> Done[States]:
        """Raises `TooManyDead`, what the handler raises, and the errors of `database/faults.py`."""
        ...


async def once(
    consumer: Consumer[Event, States], tx: AsyncConnection, parsed: Sequence[Parsed[Event]], watch: Stopwatch
) -> Done[States]:
    """Each event has its effect unless the inbox says that it has had one; then it is counted as a duplicate."""
    # Of redelivered events too: what follows a commit may not have followed the first one.
    states = await consumer.handler.load(tx, events_of(parsed))
    known = await inbox.known(tx, consumer.group, ids_of(parsed))
    fresh, repeated = first_deliveries(parsed, known)
    parked = await inbox.parked(tx, consumer.group, subjects_of(fresh))
    watch.lap("load")
    decided = decide_in_order(consumer.handler, states, fresh, parked)
    consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in decided])
    watch.lap("decide")
    await consumer.handler.store(tx, states)
    await inbox.record(tx, [entry_of(consumer, *each) for each in decided])
    await inbox.count_duplicates(tx, [entry_of(consumer, each.delivery, APPLIED) for each in repeated])
    told = [*consumer.handler.changes(states), *dead_copies(consumer.group, decided)]
    await outbox.record(tx, told, consumer.clock())
    watch.lap("store")
    return Done(states, decided, len(repeated), bool(told))


def entry_of(consumer: Consumer[Event, States], delivery: Delivery, outcome: Outcome) -> InboxEntry:
    """The row of an event that has just been decided for the first time."""
    now = consumer.clock()
    is_head = outcome.status is Status.WAITING and outcome is not BEHIND_ANOTHER
    return InboxEntry(
        consumer_group=consumer.group,
        event_id=delivery.envelope.id,
        event_type=delivery.envelope.type,
        performer_id=delivery.envelope.subject,
        log_topic=delivery.topic,
        log_partition=delivery.partition,
        log_offset=delivery.offset,
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
