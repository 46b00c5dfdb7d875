"""The task that writes the last use of each secret."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from random import uniform
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks import secrets as webhook_secrets
from webhook_ingest.secrets.key_ring import KeyRing

WRITE_SECONDS: Final = 60.0
LAST_WRITE_SECONDS: Final = 1.0
"""Timeout of the last write, when the process ends."""


class SecretUsageRecorder:
    """A writer of the key ring's uses: the first at once, then at most once in `seconds`, the rest at the end.

    If a write fails, its uses go into the next one. No request waits for it.
    """

    def __init__(
        self, ring: KeyRing, database: Database, *, logger: FilteringBoundLogger, seconds: float = WRITE_SECONDS
    ) -> None:
        self._ring = ring
        self._database = database
        self._logger = logger
        self._seconds = seconds

    async def run(self) -> None:
        """Write until cancelled, and then once more."""
        try:
            while True:
                await self._ring.wait_for_uses()
                await self.write()
                # Never less than `seconds`; replicas that started together spread out.
                await asyncio.sleep(self._seconds * uniform(1.0, 1.2))  # noqa: S311 - no secret depends on jitter
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE_SECONDS):
                    await self.write()

    async def write(self) -> None:
        """Write the recorded uses."""
        uses = self._ring.take_uses()
        if not uses:
            return
        try:
            async with self._database.transaction() as tx:
                await self._record(tx, uses)
        except SafeVideoError as error:
            self._ring.restore_uses(uses)
            self._logger.warning("Use of webhook secrets not recorded, will retry", code=error.code)
        except asyncio.CancelledError:
            self._ring.restore_uses(uses)
            raise

    async def _record(self, tx: AsyncConnection, uses: Mapping[str, datetime]) -> None:
        integration = await integrations.ensure(tx, SHAREGRAM, max(uses.values()))
        for name, at in sorted(uses.items()):  # sorted, so that replicas do not deadlock
            if self._ring.is_from_environment(name):
                await webhook_secrets.record_environment_use(tx, integration, name, at)
            else:
                await webhook_secrets.record_use(tx, integration, name, at)
