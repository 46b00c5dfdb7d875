"""The task that loads the valid secrets of the database into the key ring."""

import asyncio
from collections.abc import Iterator, Sequence
from random import uniform
from typing import Final

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import EncryptedSecret
from webhook_ingest.secrets.key_ring import KeyRing, StoredSecret

MIN_SECONDS: Final = 2.0
"""Minimum time between two queries, however often a refresh is requested: forged webhooks request it too. Sharegram
waits longer before its first retry, so a new secret is loaded by then."""


class SecretRefresher:
    """A periodic load of the valid secrets, also soon after `KeyRing.request_refresh`.

    While the database is unavailable, the loaded secrets stay. If a row cannot be decrypted any more, its loaded value
    stays. A row that never could be decrypted is left out. `seconds` is the usual interval, ±20 %, so that many
    processes do not query at once.
    """

    def __init__(
        self,
        ring: KeyRing,
        database: Database,
        cipher: Cipher,
        *,
        clock: Clock,
        logger: FilteringBoundLogger,
        seconds: float,
        min_seconds: float = MIN_SECONDS,
    ) -> None:
        self._ring = ring
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._logger = logger
        self._seconds = seconds
        self._min_seconds = min_seconds
        self._is_stale = False
        self._unreadable: frozenset[int] = frozenset()
        self._names: Sequence[str] = ()

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._min_seconds)
            usual = self._seconds * uniform(0.8, 1.2)  # noqa: S311 - no secret depends on jitter
            await self._ring.wait_for_refresh_request(max(0.0, usual - self._min_seconds))

    async def refresh(self) -> None:
        """Load the secrets once. On an error, log it and keep the loaded secrets."""
        self._ring.begin_refresh()
        now = self._clock()
        try:
            async with self._database.read_connection() as connection:
                encrypted = await webhook_secrets.find_valid(connection, SHAREGRAM, now)
        except SafeVideoError as error:
            self._log_stale(error)
            return
        stored = list(self._decrypt(encrypted))
        self._ring.replace(stored, self._clock())
        self._log_changes(stored)

    def _decrypt(self, encrypted: Sequence[EncryptedSecret]) -> Iterator[StoredSecret]:
        unreadable = set()
        for each in encrypted:
            try:
                secret = webhook_secrets.decrypt_secret(self._cipher, SHAREGRAM, each)
            except (DecryptionFailed, ValueError):
                unreadable.add(each.id)
                self._log_unreadable(each)
                if loaded := self._ring.get(each.id):
                    yield StoredSecret(each.id, loaded.secret, each.expires_at)
            else:
                yield StoredSecret(each.id, secret, each.expires_at)
        self._unreadable = frozenset(unreadable)

    def _log_stale(self, error: SafeVideoError) -> None:
        if not self._is_stale:  # once an outage
            self._logger.warning("Webhook secrets not refreshed, using the last loaded ones", code=error.code)
        self._is_stale = True

    def _log_unreadable(self, encrypted: EncryptedSecret) -> None:
        if encrypted.id not in self._unreadable:
            self._logger.error(
                "Webhook secret cannot be decrypted: ENCRYPTION_KEY lacks its key, or the row is damaged",
                code="SECRET_UNREADABLE",
                secret_id=encrypted.id,
                key=encrypted.name,
            )

    def _log_changes(self, stored: Sequence[StoredSecret]) -> None:
        names = [each.secret.name for each in stored]
        if self._is_stale or names != self._names:
            self._logger.info("Webhook secrets refreshed", keys=",".join(names) or "none")
        self._is_stale, self._names = False, names
