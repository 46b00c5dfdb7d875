"""The registration of our webhook endpoint at Sharegram: in the audit log before it is sent, and its result after."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError, ValidationFailed
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.operations import RegisteredWebhook, SharegramCaller
from safevideo_common.webhooks.addresses import address_fault

REQUESTED: Final = "webhooks.registration_requested"
REGISTERED: Final = "webhooks.registered"
FAILED: Final = "webhooks.registration_failed"
TARGET: Final = "integration:sharegram"


class WebhookRegistration:
    """Registers addresses. `only_https` is for a production."""

    def __init__(self, database: Database, sharegram: SharegramClient, clock: Clock, *, only_https: bool) -> None:
        self._database = database
        self._sharegram = sharegram
        self._clock = clock
        self._only_https = only_https

    def check(self, url: str, member: str) -> None:
        """Raise `ValidationFailed`, whose details name `member`, for an address that cannot be registered."""
        if fault := address_fault(url, only_https=self._only_https):
            raise ValidationFailed(f"The address {fault}.", details={member: fault})

    async def register(
        self, url: str, events: Sequence[str] | None, caller: Caller, origin: SharegramCaller
    ) -> RegisteredWebhook:
        """Register `url` for `events`, or for all. It is sent once: after a failure the caller decides.

        A database that takes no writes refuses it before anything is sent. Raises `ValidationFailed`, and the errors of
        the client and of the database. After an error of the database Sharegram may have the address: the audit log
        says that it was requested.
        """
        self.check(url, "url")
        await self._record(caller, REQUESTED, {"url": url, "events": events and list(events)})
        try:
            registered = await self._sharegram.register_webhook(origin, url=url, events=events)
        except SafeVideoError as error:
            with suppress(SafeVideoError):  # what failed at Sharegram is what the caller must know
                await self._record(caller, FAILED, {"code": error.code})
            raise
        result = {
            "webhookId": registered.webhook_id,
            "url": registered.url,
            "events": registered.events and list(registered.events),
        }
        await self._record(caller, REGISTERED, result)
        return registered

    async def _record(self, caller: Caller, action: str, details: Mapping[str, object]) -> None:
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry(action, self._clock, details, TARGET))
