"""The relay: round after round, as long as the lease is held."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import uniform
from secrets import token_hex
from time import monotonic
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.port import BatchProducer
from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import leases
from safevideo_common.database.engine import Database
from safevideo_common.errors import PayloadTooLarge, ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.metrics import RelayMetrics
from safevideo_common.outbox.store import OutboxDepth, OutboxMessage
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.service import background_task

# The right to relay, as one process has it.


LEASE_NAME: Final = "outbox-relay"
LEASE_SECONDS: Final = 15.0
"""After a relay has died, another goes on after so long at the most."""
RELEASE_SECONDS: Final = 2.0


class RelayLeaseLost(Exception):
    """Another process has had the lease since: what was to be done under it is rolled back."""


class RelayLease:
    """Held for `seconds` after it was last taken or extended, by our own clock; the database's is what counts."""

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._holder = token_hex(16)
        self._until = 0.0

    @property
    def is_held(self) -> bool:
        """Whether it is ours as far as we know."""
        return monotonic() < self._until

    async def take(self) -> bool:
        """Take it if it is free. Raises `ServiceUnavailable`."""
        until = monotonic() + self._seconds
        async with self._database.transaction() as tx:
            is_held = await leases.acquire(tx, LEASE_NAME, self._holder, self._seconds)
        self._until = until if is_held else 0.0
        return is_held

    async def extend(self, tx: AsyncConnection) -> None:
        """Extend it, unless another has had it meanwhile: raises `RelayLeaseLost`."""
        until = monotonic() + self._seconds
        if not await leases.renew(tx, LEASE_NAME, self._holder, self._seconds):
            self._until = 0.0
            raise RelayLeaseLost
        self._until = until

    async def keep(self) -> None:
        """For a holder who has nothing to write: extend it when a third of its time is over."""
        if monotonic() > self._until - self._seconds * 2 / 3:
            async with self._database.transaction() as tx:
                await self.extend(tx)

    async def release(self) -> None:
        """Let another go on at once. When the database is away, it has to wait for the lease to end."""
        if self.is_held:
            with suppress(ServiceUnavailable, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._database.transaction() as tx:
                    await leases.release(tx, LEASE_NAME, self._holder)
        self._until = 0.0


BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
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
    publisher: BatchProducer
    lease: RelayLease
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
        except RelayLeaseLost:
            self.log.warning("Outbox lease lost", code="LEASE_LOST")
            return
        await self._rest(relayed)

    async def relay(self) -> int:
        """Publish one batch and return its size. Raise `ServiceUnavailable`; `RelayLeaseLost` after duplicates."""
        self.stirred.clear()
        async with self.database.read_connection() as reading:
            waiting = await outbox_store.fetch_pending(reading, BATCH_MESSAGES, BATCH_BYTES)
        if waiting:
            await self._publish(waiting)
            await self._remove(waiting)
            self.metrics.relayed(len(waiting))
        return len(waiting)

    async def _publish(self, waiting: Sequence[OutboxMessage]) -> None:
        try:
            await self.publisher.publish_batch([each.message for each in waiting])
        except PayloadTooLarge:
            for each in waiting:  # in order, each one acknowledged before the next
                await self._publish_or_drop(each)

    async def _publish_or_drop(self, waiting: OutboxMessage) -> None:
        try:
            await self.publisher.publish(waiting.message)
        except PayloadTooLarge as error:
            await self._remove([waiting])  # at once: a broker's refusal ends the connection, and with it this round
            self._tell_dropped(waiting.message, error)

    def _tell_dropped(self, message: Message, error: PayloadTooLarge) -> None:
        self.metrics.dropped()
        self.log.error("Outbox message dropped", code=error.code, topic=message.topic, size=len(message.value))

    async def _remove(self, waiting: Sequence[OutboxMessage]) -> None:
        async with self.database.transaction() as tx:
            await self.lease.extend(tx)
            await outbox_store.remove(tx, [each.row_id for each in waiting])

    async def _rest(self, relayed: int) -> None:
        if relayed == BATCH_MESSAGES:
            return
        if relayed:
            self._idle = 0
            await asyncio.sleep(PAUSE_SECONDS)
            return
        self._idle += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE.delay(self._idle)):
                await self.stirred.wait()


# The relay as part of an app, with the look at what waits.


MEASURE_INTERVAL: Final = 5.0


@asynccontextmanager
async def run_outbox_relay(
    app: web.Application, database: Database, publisher: BatchProducer, stirred: asyncio.Event, clock: Clock,
    log: FilteringBoundLogger, metrics: RelayMetrics,
) -> AsyncIterator[None]:  # fmt: skip
    """Relay beside `app` whenever it is this process's turn; `stirred` is set when it has committed something.

    Every process measures what waits, also while another relays: nobody may be relaying at all.
    """
    relay = OutboxRelay(database, publisher, RelayLease(database), stirred, log, metrics)
    async with (
        background_task(app, "outbox-depth", watch_depth(database, clock, metrics)),
        background_task(app, "outbox-relay", relay.run()),
    ):
        yield


async def watch_depth(database: Database, clock: Clock, metrics: RelayMetrics) -> None:
    """Measure what waits, for ever."""
    while True:
        metrics.waiting(await _depth(database), clock())
        await asyncio.sleep(uniform(MEASURE_INTERVAL / 2, MEASURE_INTERVAL))  # noqa: S311 - jitter guards nothing


async def _depth(database: Database) -> OutboxDepth | None:
    try:
        async with database.read_connection() as reading:
            return await outbox_store.depth(reading)
    except ServiceUnavailable:
        return None
