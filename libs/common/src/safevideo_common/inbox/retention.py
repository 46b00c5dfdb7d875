"""The inbox pruner: it deletes old rows in small chunks and measures the size of the inbox."""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from safevideo_common.clock import Clock
from safevideo_common.database import leases
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.inbox.metrics import InboxMetrics
from safevideo_common.inbox.store.retention import PagePosition, PrunedRows, database_time, inbox_size, prune_chunk
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import jittered

MEASURE_INTERVAL: Final = 60.0
PRUNE_INTERVAL: Final = 3600
"""Seconds. The pruning worker holds the lease for as long, so one worker prunes for all. If it is killed, the next
pruning begins when the lease ends."""
ROWS_PER_CHUNK: Final = 500
CHUNK_INTERVAL: Final = 0.5
"""Seconds between two chunks: at most 80 million rows a day, and the database is idle for most of the time."""
LEASE: Final = "inbox-housekeeping"
_BEGINNING: Final = PagePosition(datetime(1970, 1, 1, tzinfo=UTC), 0)


@dataclass(slots=True)
class InboxPruner:
    """Prunes and measures the inbox. Any number of workers may run one: a lease lets one of them prune."""

    group: str
    database: Database
    clock: Clock
    logger: FilteringBoundLogger
    metrics: InboxMetrics
    retention: timedelta
    """Settled rows stay for this time: the broker may deliver their records again."""
    dead_retention: timedelta
    _holder: str = field(default_factory=lambda: secrets.token_hex(8))
    _prune_due: float = 0.0

    async def run(self) -> None:
        """Measure and prune until cancelled. After an error the next run begins again: deleted rows stay deleted."""
        while True:
            try:
                await self.run_once()
            except SafeVideoError as error:
                self.logger.warning("Inbox pruning failed, retrying later", code=error.code, reason=error.message)
            await asyncio.sleep(jittered(MEASURE_INTERVAL))

    async def run_once(self) -> None:
        """Measure the inbox, and prune it if that is due. Raise the errors of the database."""
        await self.measure()
        if monotonic() >= self._prune_due:
            deleted = await self.prune()
            self._prune_due = monotonic() + PRUNE_INTERVAL
            if deleted:
                self.logger.info("Inbox pruned", rows=deleted)

    async def measure(self) -> None:
        """Measure the size of the inbox and the age of its oldest waiting event."""
        async with self.database.read_connection() as reading:
            size = await inbox_size(reading, self.group)
        age = self.clock() - size.oldest_waiting if size.oldest_waiting else timedelta()
        self.metrics.measured(size.rows, size.waiting, size.dead, max(age.total_seconds(), 0.0))

    async def prune(self) -> int:
        """Delete old rows until none is left or another worker has the lease. Return how many were deleted."""
        position: PagePosition | None = _BEGINNING
        deleted = 0
        while position is not None:
            pruned = await self._prune_chunk(position)
            self.metrics.deleted(pruned.deleted)
            deleted += pruned.deleted
            position = pruned.position
            if position is not None:
                await asyncio.sleep(CHUNK_INTERVAL)
        return deleted

    async def _prune_chunk(self, after: PagePosition) -> PrunedRows:
        """Prune one chunk in a transaction that holds the lease, so that no other worker deletes at the same time."""
        async with self.database.transaction() as tx:
            if not await leases.acquire(tx, LEASE, self._holder, PRUNE_INTERVAL):
                return PrunedRows(0, None)
            now = await database_time(tx)  # a worker whose clock is ahead would delete what the broker delivers again
            before, dead_before = now - self.retention, now - self.dead_retention
            return await prune_chunk(tx, after, before=before, dead_before=dead_before, rows=ROWS_PER_CHUNK)
