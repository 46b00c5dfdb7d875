"""Applying a batch: inbox rows and states in one transaction."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic

from safevideo_common.database import inbox, outbox
from safevideo_common.database.inbox import InboxEntry
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status
from safevideo_common.errors import DatabaseConflict, DatabaseUnavailable, ServiceUnavailable
from safevideo_common.messaging.consuming.backoff import Backoff
from safevideo_common.messaging.consuming.consumer import Consumer, verdict_on
from safevideo_common.messaging.consuming.dead_letters import dead_copies
from safevideo_common.messaging.consuming.dead_share import TooManyDead
from safevideo_common.messaging.consuming.deciding import (
    BEHIND_ANOTHER,
    Parsed,
    decide_in_order,
    events_of,
    parse_all,
)
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import Claim, PartitionsLost

CONFLICT_TRIES: Final = 5
CONFLICT_BACKOFF: Final = Backoff(initial=0.02, maximum=0.5)
"""Two transactions met on the same rows: the loser runs again at once, a little apart."""

NO_FAULT_OF_THE_BATCH: Final = (ServiceUnavailable, PartitionsLost, TooManyDead)
"""Nothing of it is applied then, and it can be applied as it is when the time has come."""

KEEPS_PAYLOAD: Final = frozenset({Status.WAITING, Status.DEAD})
"""What may still be tried: its body must be at hand. Of all else the log has it."""


@dataclass(frozen=True, slots=True)
class Applier(Generic[Event, States]):
    """Gives each delivery its one effect and its row in the inbox, for one consumer group."""

    consumer: Consumer[Event, States]

    async def apply(self, deliveries: Sequence[Delivery], claim: Claim) -> None:
        """Apply a batch, in order. What was applied before is counted as a duplicate and changes nothing.

        Raises `ServiceUnavailable` when the database is away: the batch can be applied again; `PartitionsLost` when the
        claim to it is void, and `TooManyDead`. Any other failure lies in one of the events. The batch is halved until
        that event is alone, so that it costs only itself.
        """
        try:
            await self._apply_despite_conflicts(parse_all(self.consumer.handler, deliveries), claim)
        except NO_FAULT_OF_THE_BATCH:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the fault of one of its events
            if len(deliveries) == 1:
                await self._apply_despite_conflicts([Parsed(deliveries[0], verdict_on(error))], claim)
            else:
                middle = len(deliveries) // 2
                await self.apply(deliveries[:middle], claim)
                await self.apply(deliveries[middle:], claim)

    async def _apply_despite_conflicts(self, parsed: Sequence[Parsed[Event]], claim: Claim) -> None:
        for tries in range(1, CONFLICT_TRIES + 1):
            claim.check()
            try:
                return await self._apply_once(parsed, claim)
            except DatabaseConflict:
                await asyncio.sleep(CONFLICT_BACKOFF.delay(tries))
        raise DatabaseUnavailable("other transactions were quicker each time")

    async def _apply_once(self, parsed: Sequence[Parsed[Event]], claim: Claim) -> None:
        consumer = self.consumer
        watch = Stopwatch(consumer.metrics.stage)
        async with consumer.database.transaction() as tx:
            # Of redelivered events too: what follows a commit may not have followed the first one.
            states = await consumer.handler.load(tx, events_of(parsed))
            known = await inbox.known(tx, consumer.group, (each.delivery.envelope.id for each in parsed))
            fresh, repeated = _split(parsed, known)
            parked = await inbox.parked(tx, consumer.group, _subjects(fresh))
            watch.lap("load")
            decided = decide_in_order(consumer.handler, states, fresh, parked)
            consumer.dead_share.admit(asyncio.current_task(), [each.outcome for each in decided])
            watch.lap("decide")
            await consumer.handler.store(tx, states)
            await inbox.record(tx, [self._entry(*each) for each in decided])
            await inbox.count_duplicates(tx, [self._entry(each.delivery, APPLIED) for each in repeated])
            told = [*consumer.handler.changes(states), *dead_copies(consumer.group, decided)]
            await outbox.record(tx, told, consumer.clock())
            watch.lap("store")
            claim.check()
        watch.lap("commit")
        if told:
            consumer.outbox_stirred.set()
        await consumer.handler.after_commit(states)
        consumer.report([(each.delivery.envelope.id, each.outcome) for each in decided], len(repeated))

    def _entry(self, delivery: Delivery, outcome: Outcome) -> InboxEntry:
        now = self.consumer.clock()
        is_head = outcome.status is Status.WAITING and outcome is not BEHIND_ANOTHER
        return InboxEntry(
            consumer_group=self.consumer.group,
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
            next_try_at=now + timedelta(seconds=self.consumer.retry.delay(1)) if is_head else None,
            request_id=delivery.envelope.request_id,
            payload=delivery.body if outcome.status in KEEPS_PAYLOAD else None,
        )


def _split(parsed: Iterable[Parsed[Event]], known: Collection[str]) -> tuple[list[Parsed[Event]], list[Parsed[Event]]]:
    """The first delivery of each event that is new, and all the others."""
    seen = set(known)
    fresh: list[Parsed[Event]] = []
    repeated: list[Parsed[Event]] = []
    for each in parsed:
        (repeated if each.delivery.envelope.id in seen else fresh).append(each)
        seen.add(each.delivery.envelope.id)
    return fresh, repeated


def _subjects(parsed: Iterable[Parsed[Event]]) -> set[str]:
    return {subject for each in parsed if (subject := each.delivery.envelope.subject) is not None}
