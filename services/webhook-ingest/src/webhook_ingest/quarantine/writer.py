"""The task that writes what the intake holds, and keeps the table within its bounds."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.encryption import Cipher
from safevideo_common.errors import DatabaseConflict, DataRejected, SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine import store as quarantine_store
from safevideo_common.quarantine.limits import RetentionLimits, TrimResult, trim_to
from safevideo_common.quarantine.store import Rejection, RepeatCount
from webhook_ingest.quarantine.capture import Rejected
from webhook_ingest.quarantine.metrics import QuarantineMetrics
from webhook_ingest.quarantine.queue import QuarantineQueue
from webhook_ingest.quarantine.records import group_rejections, rejections, repeats

GATHER_SECONDS: Final = 0.5
"""Between two batches. With `BATCH_ROWS` this is the most that a flood makes us write: 200 rows a second."""

TIDY_SECONDS: Final = 60.0
"""How often what is too old is looked for while nothing comes in."""

LAST_SECONDS: Final = 2.0
"""For what still waits when the process ends."""

TRIES: Final = 3
CONFLICT_SECONDS: Final = 0.05


class Written(NamedTuple):
    """What one transaction did."""

    added: int
    repeated: int
    trimmed: TrimResult


class DatabaseQuarantine:
    """A `Quarantine` on the table `quarantine_store`. `keep` must run beside it as a background task."""

    def __init__(
        self,
        intake: QuarantineQueue,
        database: Database,
        cipher: Cipher,
        bounds: RetentionLimits,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: QuarantineMetrics,
    ) -> None:
        self._intake = intake
        self._database = database
        self._cipher = cipher
        self._bounds = bounds
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._is_away = False

    def offer(self, rejected: Rejected) -> None:
        """See `Quarantine`."""
        self._intake.offer(rejected)

    async def keep(self) -> None:
        """Write until cancelled; then what still waits, for `LAST_SECONDS` at most."""
        batch: Sequence[Rejected] = ()
        try:
            while True:
                batch = ()
                await self._intake.wait(TIDY_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
                batch = self._intake.take()
                await self._write(batch)
        finally:
            await self._write_rest(batch)

    async def _write_rest(self, broken_off: Sequence[Rejected]) -> None:
        rest = broken_off or self._intake.take()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while rest:
                    await self._write(rest)
                    rest = self._intake.take()
        except TimeoutError:
            while rest:
                self._metrics.count("database_away", len(rest))
                rest = self._intake.take()

    async def _write(self, batch: Sequence[Rejected]) -> None:
        """Write a batch, or drop and count it: the sender tries again, and nothing may pile up here."""
        try:
            self._report(await self._written(batch))
        except DataRejected:
            await self._write_apart(batch)
        except SafeVideoError as error:
            self._metrics.count("database_away", len(batch))
            self._report_away(error)

    async def _write_apart(self, batch: Sequence[Rejected]) -> None:
        """One row that the database does not take must not cost the others."""
        if len(batch) <= 1:
            self._metrics.count("unstorable", len(batch))
            return
        half = len(batch) // 2
        await self._write(batch[:half])
        await self._write(batch[half:])

    async def _written(self, batch: Sequence[Rejected]) -> Written:
        webhooks = await asyncio.to_thread(group_rejections, batch)
        async with self._database.read_connection() as reading:
            known = await quarantine_store.existing_fingerprints(reading, webhooks)
        new = await asyncio.to_thread(rejections, webhooks, known, self._cipher)
        again = repeats(webhooks, known)
        for _ in range(TRIES - 1):
            try:
                return await self._transact(new, again, len(batch))
            except DatabaseConflict:
                await asyncio.sleep(random.uniform(0, CONFLICT_SECONDS))  # noqa: S311 - it guards nothing
        return await self._transact(new, again, len(batch))

    async def _transact(self, new: Sequence[Rejection], again: Sequence[RepeatCount], deliveries: int) -> Written:
        async with self._database.transaction() as tx:
            await quarantine_store.count_repeats(tx, again)
            await quarantine_store.add(tx, new)
            trimmed = await trim_to(tx, self._bounds, self._clock())
        return Written(len(new), deliveries - len(new), trimmed)

    def _report(self, written: Written) -> None:
        self._is_away = False
        trimmed = written.trimmed
        self._metrics.count("kept", written.added)
        self._metrics.count("repeated", written.repeated)
        self._metrics.count("evicted", trimmed.evicted)
        self._metrics.count("expired", trimmed.expired)
        self._metrics.held(trimmed.usage)
        if written.added:
            self._log.info(
                "Webhooks quarantined",
                kept=written.added,
                repeated=written.repeated,
                evicted=trimmed.evicted,
                rows=trimmed.usage.rows,
            )

    def _report_away(self, error: SafeVideoError) -> None:
        if not self._is_away:  # one line an outage
            self._log.warning("Quarantine cannot be written", code=error.code, error=error.message)
        self._is_away = True
