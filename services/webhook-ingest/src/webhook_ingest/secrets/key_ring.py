"""The valid secrets in memory, for requests; and the requests' messages to the background tasks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from safevideo_common.tasks import wait_event
from safevideo_common.webhooks.signatures import WebhookSecret

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret of the database and its id there."""

    id: int
    secret: WebhookSecret
    expires_at: datetime | None

    @property
    def end(self) -> datetime:
        """The first time at which it is not valid."""
        return self.expires_at or _NEVER


class KeyRing:
    """The secrets of one process: those of the database, newest first, then those of the environment.

    What requests call never waits and never fails.
    """

    def __init__(self, environment: Sequence[WebhookSecret]) -> None:
        self._environment = tuple(environment)
        self._stored: Mapping[int, StoredSecret] = {}
        self._active = self._environment
        self._next_end = _NEVER
        self._uses: dict[str, datetime] = {}
        self._has_uses = asyncio.Event()
        self._refresh_requested = asyncio.Event()

    def active_at(self, now: datetime) -> Sequence[WebhookSecret]:
        """Return the valid secrets, newest first. An expired secret is left out even without a refresh."""
        if now >= self._next_end:
            self.replace(list(self._stored.values()), now)
        return self._active

    def record_use(self, secret: WebhookSecret, now: datetime) -> None:
        """Record that `secret` signed an accepted webhook. One record is kept for each secret."""
        if secret.name not in self._uses:
            self._has_uses.set()
        self._uses[secret.name] = now

    def request_refresh(self) -> None:
        """Request a refresh, as often as you like: `SecretRefresher` limits the queries."""
        self._refresh_requested.set()

    def replace(self, stored: Sequence[StoredSecret], now: datetime) -> None:
        """Replace the secrets of the database. `stored` is ordered newest first."""
        valid = [each for each in stored if now < each.end]
        self._stored = {each.id: each for each in valid}
        self._active = (*(each.secret for each in valid), *self._environment)
        self._next_end = min((each.end for each in valid), default=_NEVER)

    def get(self, secret_id: int) -> StoredSecret | None:
        """Return the secret of the database with this id, if it is loaded."""
        return self._stored.get(secret_id)

    def is_from_environment(self, name: str) -> bool:
        """Return True if a secret of the environment has this name."""
        return any(secret.name == name for secret in self._environment)

    async def wait_for_refresh_request(self, seconds: float) -> None:
        """Return after a request for a refresh, at the latest after `seconds`."""
        await wait_event(self._refresh_requested, seconds)

    def begin_refresh(self) -> None:
        """Clear the request flag before reading. A request that arrives during the read triggers another refresh."""
        self._refresh_requested.clear()

    async def wait_for_uses(self) -> None:
        """Return when there are recorded uses."""
        await self._has_uses.wait()

    def take_uses(self) -> Mapping[str, datetime]:
        """Remove and return the last use of each secret, by name."""
        uses, self._uses = self._uses, {}
        self._has_uses.clear()
        return uses

    def restore_uses(self, uses: Mapping[str, datetime]) -> None:
        """Put back uses that could not be written. A later use of the same secret wins."""
        self._uses = {**uses, **self._uses}
        self._has_uses.set()
