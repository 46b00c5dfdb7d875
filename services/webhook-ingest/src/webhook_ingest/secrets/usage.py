"""Writes when each secret was last used."""

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
"""What the last write may take of the time that the process has to end."""


class SecretUsageRecorder:
    """Writes the ring's uses: the first one at once, later ones at most once in `seconds`, the rest at the end.

    A write that fails costs no request anything; its notes go into the next one.
    """

    def __init__(
        self, ring: KeyRing, database: Database, *, log: FilteringBoundLogger, seconds: float = WRITE_SECONDS
    ) -> None:
        self._ring = ring
        self._database = database
        self._log = log
        self._seconds = seconds

    async def run(self) -> None:
        """Write until cancelled, and then once more."""
        try:
            while True:
                await self._ring.is_used()
                await self.write()
                # Never less than `seconds`; replicas that were started together drift apart.
                await asyncio.sleep(self._seconds * uniform(1.0, 1.2))  # noqa: S311 - jitter guards nothing
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE_SECONDS):
                    await self.write()

    async def write(self) -> None:
        """Write what there is."""
        uses = self._ring.take_uses()
        if not uses:
            return
        try:
            async with self._database.transaction() as tx:
                await self._note(tx, uses)
        except SafeVideoError as error:
            self._ring.give_back(uses)
            self._log.warning("Webhook secrets' use not noted", code=error.code)
        except asyncio.CancelledError:
            self._ring.give_back(uses)
            raise

    async def _note(self, tx: AsyncConnection, uses: Mapping[str, datetime]) -> None:
        of = await integrations.ensure(tx, SHAREGRAM, max(uses.values()))
        for name, at in sorted(uses.items()):  # in one order everywhere, so that replicas do not lock each other out
            if self._ring.is_of_environment(name):
                await webhook_secrets.record_environment_use(tx, of, name, at)
            else:
                await webhook_secrets.record_use(tx, of, name, at)
