"""Decisions of people about the status of a performer, and the end of suspensions.

A decision, its change event and whatever the caller adds are one transaction. The cached value is removed before the
commit, which keeps the old one from being cached for ten seconds, and again after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.clock import Clock
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.performer_status import StatusDecision
from safevideo_common.domain.performers import Performer, changed_fields, decide_status, end_suspension
from safevideo_common.errors import PerformerNotFound, SafeVideoError
from safevideo_common.events.change_events import Cause, PerformerChange, next_sequence, performer_changed
from safevideo_common.events.envelope import Envelope
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.performer_sync.mirror import CacheInvalidator
from safevideo_common.resilience.backoff import jittered

DECIDED: Final = "safevideo.performer.decided"
SUSPENSION_ENDED: Final = "safevideo.performer.suspension_ended"
"""The causes of change events."""
CHECK_SECONDS: Final = 10.0
CHUNK: Final = 200


Decide = Callable[[AsyncConnection, LockedPerformer], Awaitable[StatusDecision | None]]
"""Returns the decision about a locked performer, or None to leave it. It raises what forbids the decision."""
Finish = Callable[[AsyncConnection, LockedPerformer], Awaitable[None]]
"""Adds to the transaction, with the performer as it is afterwards."""


class PerformerDecisions:
    """Writes decisions. All methods raise the errors of the database."""

    def __init__(
        self, database: Database, cache: CacheInvalidator, clock: Clock, outbox_wakeup: asyncio.Event | None = None
    ) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._outbox_wakeup = outbox_wakeup

    async def make(self, performer_id: int, decide: Decide, finish: Finish, request_id: str) -> LockedPerformer:
        """Write and publish the decision about the performer with our id, and return the performer afterwards.

        Raises `PerformerNotFound`, and what `decide` and `finish` raise. Then nothing is written.
        """

        async def attempt() -> LockedPerformer:
            async with self._database.transaction() as tx:
                row = await performers.load_by_id_for_update(tx, performer_id)
                if row is None:
                    raise PerformerNotFound("There is no such performer.")
                decision = await decide(tx, row)
                if decision is not None:
                    after = decide_status(row.performer, decision)
                    row = await self._write(tx, row, after, DECIDED, self._clock(), request_id)
                await finish(tx, row)
                return row

        return await self._invalidating([performer_id], attempt)

    async def end_suspensions(self) -> int:
        """End all suspensions that are over, and return their number. Another call, also at once, changes nothing."""
        ended = 0
        while True:
            async with self._database.read_connection() as connection:
                due = await performers.suspended_until(connection, self._clock(), CHUNK)
            if not due:
                return ended
            rows: list[LockedPerformer] = []
            async with self._database.transaction() as tx:
                now = self._clock()
                for row in (await performers.load_for_update(tx, due)).values():
                    after = end_suspension(row.performer, _micros(now))
                    if after is not row.performer:
                        rows.append(await self._write(tx, row, after, SUSPENSION_ENDED, now, ""))
            if not rows:  # another process was quicker
                return ended
            ended += len(rows)
            await self._cache.invalidate([row.id for row in rows])
            if self._outbox_wakeup is not None:
                self._outbox_wakeup.set()

    async def _invalidating(
        self, performer_ids: Collection[int], attempt: Callable[[], Awaitable[LockedPerformer]]
    ) -> LockedPerformer:
        try:
            return await retry_on_conflict(attempt)
        finally:  # also if the result of the commit is unknown
            await self._cache.invalidate(performer_ids)

    async def _write(
        self, tx: AsyncConnection, row: LockedPerformer, after: Performer, cause: str, now: datetime, request_id: str
    ) -> LockedPerformer:
        name, sequence = after.sharegram_id, row.sequence
        if changes := changed_fields(row.performer, after):
            sequence = next_sequence(sequence, now)
            envelope = Envelope(f"performer-decision-{row.id}-{sequence}", cause, now, name, request_id)
            change = PerformerChange(name, changes, sequence, None, now, Cause.of(envelope))
            await outbox_store.record(tx, [performer_changed(envelope, change)], now)
        written = LockedPerformer(row.id, after, sequence)
        await performers.update(tx, [written], now)
        await self._cache.invalidate([row.id])
        return written


class SuspensionEnder:
    """Ends suspensions, a few seconds after their time. Several replicas may do so at once."""

    def __init__(self, decisions: PerformerDecisions, logger: FilteringBoundLogger) -> None:
        self._decisions = decisions
        self._logger = logger

    async def run(self) -> None:
        """Check until cancelled. An unavailable database only delays it."""
        while True:
            try:
                if ended := await self._decisions.end_suspensions():
                    self._logger.info("Suspensions ended", performers=ended)
            except SafeVideoError as error:
                self._logger.warning("Suspensions not ended, retrying later", code=error.code)
            await asyncio.sleep(jittered(CHECK_SECONDS))


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
