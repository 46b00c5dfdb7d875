"""Keeps the ring in step with the database."""

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
from safevideo_common.webhooks.signatures import WebhookSecret
from webhook_ingest.secrets.key_ring import KeyRing, StoredSecret

MIN_SECONDS: Final = 2.0
"""Between two looks into the database, however often a refresh is asked for: forged requests ask for it too. It is less
than Sharegram waits before its first retry, so a secret made just now is known by then."""


class SecretRefresher:
    """Reads the secrets that are valid, every so often and soon after it is asked to.

    With the database away the last known set stays. So does the last known value of a row that cannot be read any more;
    one that never could be is left out. `seconds` is the usual time between two looks, give or take a fifth, so that
    many processes do not look at once.
    """

    def __init__(
        self,
        ring: KeyRing,
        database: Database,
        cipher: Cipher,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        seconds: float,
        least_seconds: float = MIN_SECONDS,
    ) -> None:
        self._ring = ring
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._log = log
        self._seconds = seconds
        self._least_seconds = least_seconds
        self._is_behind = False
        self._unreadable: frozenset[int] = frozenset()
        self._names: Sequence[str] = ()

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._least_seconds)
            usual = self._seconds * uniform(0.8, 1.2)  # noqa: S311 - jitter guards nothing
            await self._ring.refresh_is_wanted(max(0.0, usual - self._least_seconds))

    async def refresh(self) -> None:
        """Look once. What goes wrong is logged, and the set stays as it is."""
        self._ring.refresh_begins()
        now = self._clock()
        try:
            async with self._database.read_connection() as connection:
                sealed = await webhook_secrets.valid(connection, SHAREGRAM, now)
        except SafeVideoError as error:
            self._tell_behind(error)
            return
        kept = list(self._opened(sealed))
        self._ring.hold(kept, self._clock())
        self._tell_of(kept)

    def _opened(self, sealed: Sequence[EncryptedSecret]) -> Iterator[StoredSecret]:
        unreadable = set()
        for each in sealed:
            try:
                secret = WebhookSecret(each.name, self._cipher.decrypt(each.ciphertext))
            except (DecryptionFailed, ValueError):
                unreadable.add(each.id)
                self._tell_unreadable(each)
                if known := self._ring.held(each.id):
                    yield StoredSecret(each.id, known.secret, each.expires_at)
            else:
                yield StoredSecret(each.id, secret, each.expires_at)
        self._unreadable = frozenset(unreadable)

    def _tell_behind(self, error: SafeVideoError) -> None:
        if not self._is_behind:  # once an outage, not at every look
            self._log.warning("Webhook secrets not refreshed, the last known ones count", code=error.code)
        self._is_behind = True

    def _tell_unreadable(self, sealed: EncryptedSecret) -> None:
        if sealed.id not in self._unreadable:
            self._log.error(
                "Webhook secret cannot be read: ENCRYPTION_KEY lacks its key, or the row is damaged",
                code="SECRET_UNREADABLE",
                secret_id=sealed.id,
                key=sealed.name,
            )

    def _tell_of(self, kept: Sequence[StoredSecret]) -> None:
        names = [each.secret.name for each in kept]
        if self._is_behind or names != self._names:
            self._log.info("Webhook secrets refreshed", keys=",".join(names) or "none")
        self._is_behind, self._names = False, names
