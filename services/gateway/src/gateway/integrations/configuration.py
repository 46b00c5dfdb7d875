"""Enabling and disabling the integration with Sharegram, and what is configured with it (contract, §6).

A change is one transaction with its entry in the audit log. This process has it at once, every other one within a
second, or within ten while Redis is unavailable.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from gateway.integrations.secret_rotation import TARGET
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.integrations import SHAREGRAM, Integration
from safevideo_common.encryption import Cipher
from safevideo_common.errors import IntegrationNotConfigured, ServiceUnavailable
from safevideo_common.protections.integration import SharegramIntegration, encrypt_credentials
from safevideo_common.protections.service import ProtectionService

ENABLED: Final = "integrations.enabled"
DISABLED: Final = "integrations.disabled"


class IntegrationKeys(NamedTuple):
    """The API key and the secret key of the integration at Sharegram. Never returned, shown or logged."""

    api_key: str
    secret_key: str


class IntegrationConfiguration:
    """Enables and disables the integration. `cipher` encrypts its keys; without one none can be stored."""

    def __init__(
        self,
        database: Database,
        integration: SharegramIntegration,
        cipher: Cipher | None,
        operations: ProtectionService,
        clock: Clock,
        *,
        has_environment_keys: bool,
    ) -> None:
        self._database = database
        self._integration = integration
        self._cipher = cipher
        self._operations = operations
        self._clock = clock
        self._has_environment_keys = has_environment_keys

    async def enable(self, keys: IntegrationKeys | None, values: Mapping[str, object], caller: Caller) -> Integration:
        """Enable the integration with new keys, or with those that are known. `values` are the columns that change.

        Raises `IntegrationNotConfigured` if there are no keys or no address, `ServiceUnavailable` for keys without
        `ENCRYPTION_KEY`, and the errors of the database.
        """
        if not self._integration.has_address:
            raise IntegrationNotConfigured("SHAREGRAM_API_URL is not configured.")
        encrypted: dict[str, object] = {}
        if keys is not None:
            if self._cipher is None:
                raise ServiceUnavailable("ENCRYPTION_KEY is not set here, so no keys can be stored.")
            encrypted = {"credentials": encrypt_credentials(self._cipher, *keys)}
        details = {"keysReplaced": keys is not None, **values}
        return await self._change(ENABLED, {**values, **encrypted}, details, caller)

    async def disable(self, caller: Caller) -> Integration:
        """Disable the integration: no call leaves, nobody signs in with Sharegram, its jobs wait in their queue.

        Raises `IntegrationNotConfigured` if there is nothing to disable, and the errors of the database.
        """
        return await self._change(DISABLED, {}, {}, caller)

    async def _change(
        self, action: str, values: Mapping[str, object], details: Mapping[str, object], caller: Caller
    ) -> Integration:
        changed = await retry_on_conflict(partial(self._write, action, values, details, caller))
        self._integration.apply(changed)
        await self._operations.signal(SHAREGRAM)
        return changed

    async def _write(
        self, action: str, values: Mapping[str, object], details: Mapping[str, object], caller: Caller
    ) -> Integration:
        now = self._clock()
        async with self._database.transaction() as tx:
            integration_id = await integrations.ensure(tx, SHAREGRAM, now)
            await integrations.lock(tx, integration_id)
            before = await integrations.find(tx, SHAREGRAM)
            has_stored_keys = before is not None and before.credentials is not None
            if not (has_stored_keys or self._has_environment_keys or "credentials" in values):
                raise IntegrationNotConfigured("There are no keys: send apiKey and secretKey.")
            await integrations.configure(tx, integration_id, is_enabled=action == ENABLED, values=values)
            entry = {"wasEnabled": before is None or before.is_enabled, **details}
            await audit_store.record(tx, caller.entry(action, self._clock, entry, TARGET))
            after = await integrations.find(tx, SHAREGRAM)
        assert after is not None
        return after
