"""Trying again what had to wait: the other writer of a group's inbox rows."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import Outcome, Status, dead
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import DlqRateExceeded, to_dead_letter
from safevideo_common.inbox.decisions import Parsed, decide, events_of, parse_all
from safevideo_common.inbox.handler import Delivery, Event, States
from safevideo_common.inbox.processor import ConsumerContext, describe_outcome
from safevideo_common.inbox.store import retries as inbox_retries
from safevideo_common.inbox.store.retries import QueueHead, WaitingEvent
from safevideo_common.outbox import store as outbox_store
from safevideo_common.resilience.duty_cycle import DutyCycle

HEADS_PER_SCAN: Final = 200
"""Of those that have a time, and of those that have none."""
QUEUE_EVENTS: Final = 100
"""Of one performer, in one transaction."""
QUEUE_TURNS: Final = 10
"""Transactions on one queue in a scan. What is behind them is due at the next one that looks for it."""
UNTIMED_SHARE: Final = 0.05
"""Of the time, at most, for looking at the heads of all queues: it matters where 100,000 events wait."""

Settled = tuple[WaitingEvent, Outcome]


@dataclass(frozen=True, slots=True)
class RetryScanner(Generic[Event, States]):
    """Looks for waiting events that are due. Any number of members may scan: a queue in work is locked."""

    consumer: ConsumerContext[Event, States]
    scan_seconds: float
    tries: int
    """After so many an event that still has to wait is dead, and those behind it go on."""

    async def run(self) -> None:
        """Until cancelled. A database that is away is waited for: the next scan finds the same events.

        Raises `DlqRateExceeded`.
        """
        pace = DutyCycle(UNTIMED_SHARE)
        while True:
            is_more = False
            try:
                is_more = await self.scan(pace)
            except ServiceUnavailable as error:
                self.consumer.log.warning("Retry scan put off", code=error.code, reason=error.message)
            if not is_more:
                await asyncio.sleep(self.scan_seconds)

    async def scan(self, pace: DutyCycle | None = None) -> bool:
        """Try each queue whose head is due; say whether more may be due by now. Raises `ServiceUnavailable`.

        `pace` says when it is time to look for heads without a time; without it, it always is.
        """
        heads = await self._heads(pace)
        random.shuffle(heads)  # members who scan at once begin at different queues, and rarely wait for each other
        settled = 0
        for head in heads:
            try:
                settled += await self._work_off(head)
            except DatabaseConflict:
                continue  # the live flow was at the same rows: the head is still due
        return settled > 0 and len(heads) >= HEADS_PER_SCAN

    async def _heads(self, pace: DutyCycle | None) -> list[QueueHead]:
        consumer, pace = self.consumer, pace or DutyCycle(1.0)
        async with consumer.database.read_connection() as connection:
            heads = await inbox_retries.due_heads(connection, consumer.group, consumer.clock(), HEADS_PER_SCAN)
            if pace.is_due():
                with pace.measured():
                    heads += await inbox_retries.unscheduled_heads(connection, consumer.group, HEADS_PER_SCAN)
        return heads

    async def _work_off(self, head: QueueHead) -> int:
        """How many events of the queue were settled: it is left when one must wait on, or for others to have a turn."""
        settled = 0
        for _ in range(QUEUE_TURNS):
            some = await self._try(head, QUEUE_EVENTS)
            settled += some
            if some < QUEUE_EVENTS:
                break
        return settled

    async def _try(self, head: QueueHead, limit: int) -> int:
        """How many were settled before one had to wait on. A handler's failure is narrowed down to the head."""
        try:
            settled, states = await self._try_once(head, limit)
        except (ServiceUnavailable, DlqRateExceeded):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the fault of one of its events
            if limit > 1:
                return await self._try(head, 1)
            settled = await self._bury(head, describe_outcome(error))
        else:
            await self.consumer.handler.after_commit(states)
        self.consumer.report([(event.event_id, outcome) for event, outcome in settled])
        self.consumer.outbox_stirred.set()
        return len(settled)

    async def _try_once(self, head: QueueHead, limit: int) -> tuple[Sequence[Settled], States]:
        consumer, states = self.consumer, None
        try:
            async with consumer.database.transaction() as tx:
                queue = await inbox_retries.waiting_of(tx, consumer.group, head, consumer.clock(), limit)
                parsed = parse_all(consumer.handler, map(_delivery, queue))
                states = await consumer.handler.load(tx, events_of(parsed))
                decided = self._decide_until_one_waits(states, zip(queue, parsed, strict=True))
                consumer.dead_share.admit(asyncio.current_task(), [outcome for _, outcome in decided])
                await consumer.handler.store(tx, states)
                for event, outcome in decided:
                    await self._write(tx, event, outcome)
                await self._tell(tx, consumer.handler.changes(states), decided)
        except ServiceUnavailable:
            if states is not None:  # a commit whose answer was lost may be done, and nothing comes back to these events
                await consumer.handler.after_commit(states)
            raise
        return [each for each in decided if each[1].status is not Status.WAITING], states

    def _decide_until_one_waits(
        self, states: States, queue: Iterable[tuple[WaitingEvent, Parsed[Event]]]
    ) -> list[Settled]:
        decided = []
        for event, parsed in queue:
            outcome = decide(self.consumer.handler, states, parsed)
            if outcome.status is Status.WAITING and event.tries + 1 >= self.tries:
                outcome = dead("TRIES_EXHAUSTED", f"after {event.tries + 1} tries: {outcome.reason}")
            decided.append((event, outcome))
            if outcome.status is Status.WAITING:
                break
        return decided

    async def _write(self, tx: AsyncConnection, event: WaitingEvent, outcome: Outcome) -> None:
        now = self.consumer.clock()
        if outcome.status is Status.WAITING:
            tries = event.tries + 1
            next_try_at = now + timedelta(seconds=self.consumer.retry.delay(tries))
            await inbox_retries.reschedule(tx, event.row_id, next_try_at, tries, outcome.reason or "")
        else:
            await inbox_retries.complete(tx, event.row_id, outcome, now)

    async def _bury(self, head: QueueHead, verdict: Outcome) -> Sequence[Settled]:
        consumer = self.consumer
        consumer.dead_share.admit(asyncio.current_task(), [verdict])
        async with consumer.database.transaction() as tx:
            queue = await inbox_retries.waiting_of(tx, consumer.group, head, consumer.clock(), 1)
            for event in queue:
                await inbox_retries.complete(tx, event.row_id, verdict, consumer.clock())
            settled = [(event, verdict) for event in queue]
            await self._tell(tx, (), settled)
        return settled

    async def _tell(self, tx: AsyncConnection, changes: Iterable[Message], settled: Iterable[Settled]) -> None:
        consumer = self.consumer
        dead = [
            to_dead_letter(consumer.group, _delivery(event), outcome, event.tries + 1)
            for event, outcome in settled
            if outcome.status is Status.DEAD
        ]
        if told := [*changes, *dead]:
            await outbox_store.record(tx, told, consumer.clock())


def _delivery(event: WaitingEvent) -> Delivery:
    return Delivery(
        Envelope(event.event_id, event.event_type, event.occurred_at, event.performer_id, event.request_id or ""),
        event.payload,
        event.source_topic,
        event.source_partition,
        event.source_offset,
        event.received_at,
    )
