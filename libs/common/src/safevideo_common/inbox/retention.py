"""Keeping the inbox small, beside the consuming: old rows go in small chunks, and its size is shown."""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import uniform
from time import monotonic
from typing import Final, Self

from safevideo_common.clock import Clock
from safevideo_common.database import leases
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.handler import Event, States
from safevideo_common.inbox.metrics import InboxMetrics
from safevideo_common.inbox.processor import ConsumerContext
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.inbox.store.retention import PagePosition, PrunedRows, inbox_size, prune
from safevideo_common.observability.logs import FilteringBoundLogger

MEASURE_INTERVAL: Final = 60.0
"""Between two looks at the size of the inbox."""

PASS_SECONDS: Final = 3600
"""Between two passes over the old rows. Who makes one has the lease for as long, so it is one pass for all workers; one
that is killed half-way costs the rest of the hour."""

CHUNK_ROWS: Final = 500
CHUNK_SECONDS: Final = 0.5
"""Between two chunks: up to 80 million rows go in a day, and the database is idle for most of the time."""

LEASE: Final = "inbox-housekeeping"
_BEGINNING: Final = PagePosition(datetime(1970, 1, 1, tzinfo=UTC), 0)


@dataclass(slots=True)
class InboxPruner:
    """The inbox's measure and broom. Any number of workers may run one: a pass is made by one of them."""

    group: str
    database: Database
    clock: Clock
    log: FilteringBoundLogger
    metrics: InboxMetrics
    keep: timedelta
    """Settled rows stay as long: while the log has their records, these may be delivered again."""
    keep_dead: timedelta
    _holder: str = field(default_factory=lambda: secrets.token_hex(8))
    _pass_due: float = 0.0

    @classmethod
    def of(cls, consumer: ConsumerContext[Event, States], settings: ConsumerSettings) -> Self:
        """That of one consumer group."""
        keep, keep_dead = timedelta(days=settings.inbox_retention_days), timedelta(days=settings.inbox_dead_days)
        metrics = consumer.metrics.inbox
        return cls(consumer.group, consumer.database, consumer.clock, consumer.log, metrics, keep, keep_dead)

    async def run(self) -> None:
        """Until cancelled. What fails is tried again at the next turn, from the beginning: what is deleted is gone."""
        while True:
            try:
                await self.turn()
            except SafeVideoError as error:
                self.log.warning("Inbox housekeeping put off", code=error.code, reason=error.message)
            await asyncio.sleep(uniform(MEASURE_INTERVAL / 2, MEASURE_INTERVAL))  # noqa: S311 - jitter guards nothing

    async def turn(self) -> None:
        """Look, and make a pass if one is due. Raises the errors of the database."""
        await self._look()
        if monotonic() >= self._pass_due:
            deleted = await self._pass()
            self._pass_due = monotonic() + PASS_SECONDS
            if deleted:
                self.log.info("Old events left the inbox", rows=deleted)

    async def _look(self) -> None:
        async with self.database.read_connection() as reading:
            size = await inbox_size(reading, self.group)
        age = self.clock() - size.oldest_waiting if size.oldest_waiting else timedelta()
        self.metrics.measured(size.rows, size.waiting, size.dead, max(age.total_seconds(), 0.0))

    async def _pass(self) -> int:
        """Delete what is too old, chunk by chunk, until nothing is left or another worker is at it."""
        place: PagePosition | None = _BEGINNING
        deleted = 0
        while place is not None:
            swept = await self._chunk(place)
            self.metrics.deleted(swept.deleted)
            deleted += swept.deleted
            place = swept.place
            if place is not None:
                await asyncio.sleep(CHUNK_SECONDS)
        return deleted

    async def _chunk(self, after: PagePosition) -> PrunedRows:
        """One transaction. It holds the lease, so nobody else deletes meanwhile; a kill undoes it or leaves it done."""
        now = self.clock()
        async with self.database.transaction() as tx:
            if not await leases.acquire(tx, LEASE, self._holder, PASS_SECONDS):
                return PrunedRows(0, None)
            before, dead_before = now - self.keep, now - self.keep_dead
            return await prune(tx, after, before=before, dead_before=dead_before, rows=CHUNK_ROWS)


# What costs time is done for a share of the time at most.
