"""The integration with Sharegram as one process knows it: on or off, with which keys, and which of its parts are on.

The environment decides until an administrator has enabled or disabled the integration; from then on the database does.
`OverrideWatcher` brings its row into the process. Reading costs no I/O.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import msgspec

from safevideo_common.database.integrations import SHAREGRAM, Integration
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.http import SharegramCredentials


class _Keys(msgspec.Struct):
    api_key: str
    secret_key: str


def encrypt_credentials(cipher: Cipher, api_key: str, secret_key: str) -> bytes:
    """Return the keys as the table keeps them."""
    return cipher.encrypt(msgspec.json.encode(_Keys(api_key, secret_key)), SHAREGRAM)


class SharegramIntegration:
    """The state of the integration. Keys that cannot be decrypted are none: no call leaves with other keys."""

    def __init__(
        self,
        environment: SharegramCredentials | None,
        integration_id: str,
        cipher: Cipher | None,
        logger: FilteringBoundLogger,
        *,
        has_address: bool,
    ) -> None:
        """`environment` are the keys of the environment; `cipher` decrypts stored ones."""
        self.has_address: Final = has_address
        self.changed: Final[list[Callable[[], None]]] = []
        """Called after the integration was enabled, disabled or configured."""
        self._environment = environment
        self._integration_id = integration_id
        self._cipher = cipher
        self._logger = logger
        self._row: Integration | None = None
        self._credentials = environment

    @property
    def is_switched_off(self) -> bool:
        """Return whether an administrator has disabled the integration."""
        return self._row is not None and not self._row.is_enabled

    @property
    def is_enabled(self) -> bool:
        """Return whether Sharegram can be called: there are an address and keys, and nobody has disabled it."""
        return self.has_address and self.credentials() is not None

    @property
    def is_sso_enabled(self) -> bool:
        """Return whether people may sign in with Sharegram."""
        return not self.is_switched_off and (self._row is None or self._row.is_sso_enabled is not False)

    @property
    def is_kyc_enabled(self) -> bool:
        """Return whether KYC requests are taken and sent. The feature flag may switch KYC off besides."""
        return not self.is_switched_off and (self._row is None or self._row.is_kyc_enabled is not False)

    @property
    def webhook_url(self) -> str | None:
        """Return the address at which Sharegram shall call us, if it was configured."""
        return None if self._row is None else self._row.webhook_url

    def credentials(self) -> SharegramCredentials | None:
        """Return the keys; None while the integration is disabled or has none."""
        return None if self.is_switched_off else self._credentials

    def sync_interval(self, default: timedelta) -> timedelta:
        """Return the time between two syncs of performers."""
        seconds = None if self._row is None else self._row.sync_interval_seconds
        return default if seconds is None else timedelta(seconds=seconds)

    def apply(self, row: Integration | None) -> None:
        """Take over the row of the database, unless it has not changed or was read before the last change."""
        if row == self._row or (self._row and (row is None or row.configured_at < self._row.configured_at)):
            return
        self._row = row
        stored = None if row is None else row.credentials
        self._credentials = self._environment if stored is None else self._decrypted(stored)
        for callback in self.changed:
            callback()

    def _decrypted(self, stored: bytes) -> SharegramCredentials | None:
        try:
            if self._cipher is None:
                raise DecryptionFailed("There is no ENCRYPTION_KEY.")
            keys = msgspec.json.decode(self._cipher.decrypt(stored, SHAREGRAM), type=_Keys)
        except (DecryptionFailed, msgspec.DecodeError) as error:
            reason = error.message if isinstance(error, DecryptionFailed) else "The stored keys are damaged."
            self._logger.error("Stored keys of Sharegram not readable", code="DECRYPTION_FAILED", reason=reason)
            return None
        return SharegramCredentials(keys.api_key, keys.secret_key, self._integration_id)
