"""The relay: round after round, as long as the lease is held."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from safevideo_common.database import outbox
from safevideo_common.database.engine import Database
from safevideo_common.database.outbox import Outgoing
from safevideo_common.errors import PayloadTooLarge, ServiceUnavailable
from safevideo_common.messaging.outbox_relay.lease import Lease, LeaseLost
from safevideo_common.messaging.outbox_relay.metrics import RelayMetrics
from safevideo_common.messaging.port import Message, RoundPublisher
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

ROUND_MESSAGES: Final = 500
ROUND_BYTES: Final = 8 * 1024 * 1024
"""Of values, in memory at once; copies of dead events may have a MiB each."""

PAUSE_SECONDS: Final = 0.02
"""After a round that was not full: what comes meanwhile is one round and not many."""
IDLE: Final = Backoff(initial=0.05, maximum=1.0)
"""Between looks that find nothing. What this very process commits is noticed at once."""
STANDBY: Final = Backoff(initial=1.0, maximum=1.0)
OUTAGE: Final = Backoff(initial=0.25, maximum=5.0)


@dataclass(slots=True)
class OutboxRelay:
    """Run by one task. Killing or cancelling it anywhere makes duplicates at the worst."""

    database: Database
    publisher: RoundPublisher
    lease: Lease
    stirred: asyncio.Event
    """Set when this process has committed something to relay."""
    log: FilteringBoundLogger
    metrics: RelayMetrics
    _idle: int = 0

    async def run(self) -> None:
        """Until cancelled. While the log or the database is away it waits; then the lease is not extended.

        So where it is this process alone that does not reach the log, another goes on.
        """
        tries = 0
        try:
            while True:
                try:
                    await self._turn()
                except ServiceUnavailable as error:
                    tries += 1
                    self._report(error, tries)
                    await asyncio.sleep(OUTAGE.delay(tries))
                else:
                    if tries:
                        self.log.info("Outbox relay goes on", tries=tries)
                    tries = 0
        finally:
            await self.lease.release()

    def _report(self, error: ServiceUnavailable, tries: int) -> None:
        self.metrics.failed()
        if tries == 1:
            self.log.warning("Outbox relay waits", code=error.code, reason=error.message)

    async def _turn(self) -> None:
        if not self.lease.is_held and not await self.lease.take():
            await asyncio.sleep(STANDBY.delay(1))
            return
        try:
            relayed = await self.relay()
            if not relayed:
                await self.lease.keep()
        except LeaseLost:
            self.log.warning("Outbox lease lost", code="LEASE_LOST")
            return
        await self._rest(relayed)

    async def relay(self) -> int:
        """One round: how many messages. Raises `ServiceUnavailable`, and `LeaseLost` when it has made duplicates."""
        self.stirred.clear()
        async with self.database.reading() as reading:
            waiting = await outbox.oldest(reading, ROUND_MESSAGES, ROUND_BYTES)
        if waiting:
            await self._publish(waiting)
            await self._remove(waiting)
            self.metrics.relayed(len(waiting))
        return len(waiting)

    async def _publish(self, waiting: Sequence[Outgoing]) -> None:
        try:
            await self.publisher.publish_all([each.message for each in waiting])
        except PayloadTooLarge:
            for each in waiting:  # in order, each one acknowledged before the next
                await self._publish_or_drop(each)

    async def _publish_or_drop(self, waiting: Outgoing) -> None:
        try:
            await self.publisher.publish(waiting.message)
        except PayloadTooLarge as error:
            await self._remove([waiting])  # at once: a broker's refusal ends the connection, and with it this round
            self._tell_dropped(waiting.message, error)

    def _tell_dropped(self, message: Message, error: PayloadTooLarge) -> None:
        self.metrics.dropped()
        self.log.error("Outbox message dropped", code=error.code, topic=message.topic, size=len(message.value))

    async def _remove(self, waiting: Sequence[Outgoing]) -> None:
        async with self.database.transaction() as tx:
            await self.lease.extend(tx)
            await outbox.remove(tx, [each.row_id for each in waiting])

    async def _rest(self, relayed: int) -> None:
        if relayed == ROUND_MESSAGES:
            return
        if relayed:
            self._idle = 0
            await asyncio.sleep(PAUSE_SECONDS)
            return
        self._idle += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE.delay(self._idle)):
                await self.stirred.wait()
