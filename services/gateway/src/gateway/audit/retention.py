"""Retention: what the gateway deletes after its time. Nothing else deletes an entry of the audit log."""

import asyncio
from datetime import timedelta
from typing import Final

from gateway.http import idempotency
from safevideo_common.audit import store as audit_store
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import jittered
from safevideo_common.users import role_grants

INTERVAL_SECONDS: Final = 600.0
CHUNK_ROWS: Final = 500
CHUNK_PAUSE_SECONDS: Final = 0.1


class Retention:
    """Deletes old audit entries, and idempotency keys and pending roles that have expired, in chunks.

    Several replicas may do so at once.
    """

    def __init__(self, database: Database, clock: Clock, logger: FilteringBoundLogger, *, audit_days: int) -> None:
        self._database = database
        self._clock = clock
        self._logger = logger
        self._audit_age = timedelta(days=audit_days)

    async def run(self) -> None:
        """Delete periodically until cancelled. An unavailable database only delays it."""
        while True:
            try:
                deleted = await self.delete_old()
            except SafeVideoError as error:
                self._logger.warning("Old rows not deleted", code=error.code)
            else:
                if deleted:
                    self._logger.info("Old rows deleted", rows=deleted)
            await asyncio.sleep(jittered(INTERVAL_SECONDS))

    async def delete_old(self) -> int:
        """Delete all that is old now, and return the number of rows."""
        before = self._clock() - self._audit_age
        deleted = 0
        while True:
            async with self._database.transaction() as tx:
                entries = await audit_store.delete_before(tx, before, CHUNK_ROWS)
                keys = await idempotency.delete_expired(tx, CHUNK_ROWS)
                grants = await role_grants.delete_ended(tx, self._clock(), CHUNK_ROWS)
            deleted += entries + keys + grants
            if max(entries, keys, grants) < CHUNK_ROWS:
                return deleted
            await asyncio.sleep(CHUNK_PAUSE_SECONDS)
