"""The outbox relay: it publishes the oldest rows, one batch after the other, while it holds the lease."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
from safevideo_common.resilience.backoff import Backoff, jittered
from safevideo_common.resilience.outages import Outage
from safevideo_common.service import background_task
from safevideo_common.tasks import wait_event

LEASE_NAME: Final = "outbox-relay"
LEASE_SECONDS: Final = 15.0
"""The longest pause after a relay has died, until another one continues."""
RELEASE_SECONDS: Final = 2.0

MAX_MESSAGES_PER_BATCH: Final = 500
MAX_BYTES_PER_BATCH: Final = 8 * 1024 * 1024
"""Of values in memory. A dead letter may have one MiB."""
BATCH_INTERVAL: Final = 0.02
"""Seconds after a batch that was not full: the messages of this time become one batch."""
IDLE: Final = Backoff(initial=0.05, maximum=1.0)
"""Between two fetches that find nothing. A message of this process wakes the relay at once."""
STANDBY_INTERVAL: Final = 1.0
OUTAGE_BACKOFF: Final = Backoff(initial=0.25, maximum=5.0)
MEASURE_INTERVAL: Final = 5.0


class RelayLeaseLost(Exception):
    """Another process has acquired the lease since: roll the transaction back."""


class RelayLease:
    """The lease of one relay. Our clock says when to renew it; the database's clock decides who holds it."""

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._holder = token_hex(16)
        self._held_until = 0.0

    @property
    def is_held(self) -> bool:
        """Return True if this process holds the lease, by our clock."""
        return monotonic() < self._held_until

    async def acquire(self) -> bool:
        """Acquire the lease if it is free. Raise `ServiceUnavailable`."""
        until = monotonic() + self._seconds
        async with self._database.transaction() as tx:
            is_held = await leases.acquire(tx, LEASE_NAME, self._holder, self._seconds)
        self._held_until = until if is_held else 0.0
        return is_held

    async def renew(self, tx: AsyncConnection) -> None:
        """Renew the lease. Raise `RelayLeaseLost` if another process has acquired it since."""
        until = monotonic() + self._seconds
        if not await leases.renew(tx, LEASE_NAME, self._holder, self._seconds):
            self._held_until = 0.0
            raise RelayLeaseLost
        self._held_until = until

    async def keep_renewed(self) -> None:
        """Renew the lease if a third of its time is over. An idle relay calls this."""
        if monotonic() > self._held_until - self._seconds * 2 / 3:
            async with self._database.transaction() as tx:
                await self.renew(tx)

    async def release(self) -> None:
        """Release the lease. If the database is unavailable, another relay must wait until the lease ends."""
        if self.is_held:
            with suppress(ServiceUnavailable, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._database.transaction() as tx:
                    await leases.release(tx, LEASE_NAME, self._holder)
        self._held_until = 0.0


@dataclass(slots=True)
class OutboxRelay:
    """Relays the outbox. Run by one task. If it is killed or cancelled at any point, it causes duplicates at worst."""

    database: Database
    producer: BatchProducer
    lease: RelayLease
    wakeup: asyncio.Event
    """Set when this process has committed a message."""
    logger: FilteringBoundLogger
    metrics: RelayMetrics
    _empty_fetches: int = 0

    async def run(self) -> None:
        """Relay until cancelled. While broker or database are unavailable, pause without renewing the lease.

        So if only this process cannot reach the broker, another one continues.
        """
        outage = Outage(self.logger, OUTAGE_BACKOFF, began="Outbox relay paused", ended="Outbox relay resumed")
        try:
            while True:
                async with outage.attempt():
                    await self._run_once()
        finally:
            await self.lease.release()

    async def _run_once(self) -> None:
        try:
            if not self.lease.is_held and not await self.lease.acquire():
                await asyncio.sleep(jittered(STANDBY_INTERVAL))
                return
            published = await self.relay()
            if not published:
                await self.lease.keep_renewed()
        except ServiceUnavailable:
            self.metrics.failed()
            raise
        except RelayLeaseLost:
            self.logger.warning("Outbox lease lost", code="LEASE_LOST")
        else:
            await self._sleep(published)

    async def relay(self) -> int:
        """Publish one batch and return its size. Raise `ServiceUnavailable`; `RelayLeaseLost` after duplicates."""
        self.wakeup.clear()
        async with self.database.read_connection() as connection:
            pending = await outbox_store.fetch_pending(connection, MAX_MESSAGES_PER_BATCH, MAX_BYTES_PER_BATCH)
        if pending:
            await self._publish(pending)
            await self._remove(pending)
            self.metrics.relayed(len(pending))
        return len(pending)

    async def _publish(self, pending: Sequence[OutboxMessage]) -> None:
        try:
            await self.producer.publish_batch([each.message for each in pending])
        except PayloadTooLarge:
            for each in pending:  # in order, each one acknowledged before the next
                await self._publish_or_discard(each)

    async def _publish_or_discard(self, pending: OutboxMessage) -> None:
        try:
            await self.producer.publish(pending.message)
        except PayloadTooLarge as error:
            await self._remove([pending])  # at once: the broker's refusal ends the connection, and with it this batch
            self._log_discarded(pending.message, error)

    def _log_discarded(self, message: Message, error: PayloadTooLarge) -> None:
        self.metrics.dropped()
        self.logger.error("Outbox message discarded", code=error.code, topic=message.topic, size=len(message.value))

    async def _remove(self, published: Sequence[OutboxMessage]) -> None:
        async with self.database.transaction() as tx:
            await self.lease.renew(tx)
            await outbox_store.remove(tx, [each.row_id for each in published])

    async def _sleep(self, published: int) -> None:
        if published == MAX_MESSAGES_PER_BATCH:
            return
        if published:
            self._empty_fetches = 0
            await asyncio.sleep(BATCH_INTERVAL)
            return
        self._empty_fetches += 1
        await wait_event(self.wakeup, IDLE.delay(self._empty_fetches))


@asynccontextmanager
async def run_outbox_relay(
    app: web.Application, database: Database, producer: BatchProducer, wakeup: asyncio.Event, clock: Clock,
    logger: FilteringBoundLogger, metrics: RelayMetrics,
) -> AsyncIterator[None]:  # fmt: skip
    """Relay beside `app` while this process holds the lease. Set `wakeup` after a commit with a message.

    Every process measures the outbox, also while another relays: it is possible that none does.
    """
    relay = OutboxRelay(database, producer, RelayLease(database), wakeup, logger, metrics)
    async with (
        background_task(app, "outbox-depth", monitor_depth(database, clock, metrics)),
        background_task(app, "outbox-relay", relay.run()),
    ):
        yield


async def monitor_depth(database: Database, clock: Clock, metrics: RelayMetrics) -> None:
    """Measure the outbox until cancelled."""
    while True:
        metrics.waiting(await _depth(database), clock())
        await asyncio.sleep(jittered(MEASURE_INTERVAL))


async def _depth(database: Database) -> OutboxDepth | None:
    try:
        async with database.read_connection() as connection:
            return await outbox_store.depth(connection)
    except ServiceUnavailable:
        return None
