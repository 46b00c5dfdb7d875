"""Applying a batch: inbox rows and states in one transaction."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.conflicts import despite_conflicts
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.messaging.consuming.consumer import Consumer, verdict_on
from safevideo_common.messaging.consuming.dead_share import TooManyDead
from safevideo_common.messaging.consuming.deciding import Parsed, parse_all
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.effects import Effect, once
from safevideo_common.messaging.consuming.handler import Event, States
from safevideo_common.messaging.consuming.stages import Stopwatch
from safevideo_common.messaging.port import Claim, PartitionsLost

NO_FAULT_OF_THE_BATCH: Final = (ServiceUnavailable, PartitionsLost, TooManyDead)
"""Nothing of it is applied then, and it can be applied as it is when the time has come."""

Begin = Callable[[], AbstractAsyncContextManager[AsyncConnection]]


@dataclass(frozen=True, slots=True)
class Applier(Generic[Event, States]):
    """Gives each delivery its effect and its row in the inbox, for one consumer group."""

    consumer: Consumer[Event, States]
    effect: Effect[Event, States] = once
    begin: Begin | None = None
    """The transaction of a batch, where it is to hold more than that."""

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
        await despite_conflicts(partial(self._apply_once, parsed, claim))

    async def _apply_once(self, parsed: Sequence[Parsed[Event]], claim: Claim) -> None:
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
