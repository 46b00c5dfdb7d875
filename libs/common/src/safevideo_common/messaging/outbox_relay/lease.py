"""The right to relay, as one process has it."""

import asyncio
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import leases
from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable

NAME: Final = "outbox-relay"
SECONDS: Final = 15.0
"""After a relay has died, another goes on after so long at the most."""
RELEASE_SECONDS: Final = 2.0


class LeaseLost(Exception):
    """Another process has had the lease since: what was to be done under it is rolled back."""


class Lease:
    """Held for `seconds` after it was last taken or extended, by our own clock; the database's is what counts."""

    def __init__(self, database: Database, seconds: float = SECONDS) -> None:
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
            is_held = await leases.hold(tx, NAME, self._holder, self._seconds)
        self._until = until if is_held else 0.0
        return is_held

    async def extend(self, tx: AsyncConnection) -> None:
        """Extend it, unless another has had it meanwhile: raises `LeaseLost`."""
        until = monotonic() + self._seconds
        if not await leases.extend(tx, NAME, self._holder, self._seconds):
            self._until = 0.0
            raise LeaseLost
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
                    await leases.release(tx, NAME, self._holder)
        self._until = 0.0
