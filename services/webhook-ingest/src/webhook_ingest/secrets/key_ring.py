"""What the request's way reads, and leaves for the background tasks to do."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from safevideo_common.webhooks.signatures import WebhookSecret

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret that the database keeps, under its id there."""

    id: int
    secret: WebhookSecret
    expires_at: datetime | None

    @property
    def end(self) -> datetime:
        """The first moment at which it counts no more."""
        return self.expires_at or _NEVER


class KeyRing:
    """The `Secrets` of one process: those that the database keeps, newest first, then those of the environment."""

    def __init__(self, environment: Sequence[WebhookSecret]) -> None:
        self._environment = tuple(environment)
        self._kept: Mapping[int, StoredSecret] = {}
        self._current = self._environment
        self._next_end = _NEVER
        self._uses: dict[str, datetime] = {}
        self._used = asyncio.Event()
        self._refresh_wanted = asyncio.Event()

    def at(self, now: datetime) -> Sequence[WebhookSecret]:
        """See `Secrets`. An expired one drops out at its time, whether or not anybody refreshes the set."""
        if now >= self._next_end:
            self.hold(list(self._kept.values()), now)
        return self._current

    def note_use(self, secret: WebhookSecret, now: datetime) -> None:
        """See `Secrets`. There are as many notes as there are secrets."""
        if secret.name not in self._uses:
            self._used.set()
        self._uses[secret.name] = now

    def refresh_soon(self) -> None:
        """See `Secrets`. How often that leads to a look is `SecretRefresh`'s business."""
        self._refresh_wanted.set()

    def hold(self, kept: Sequence[StoredSecret], now: datetime) -> None:
        """From now on these of the database count, and no others of it. The newest stands first."""
        valid = [each for each in kept if now < each.end]
        self._kept = {each.id: each for each in valid}
        self._current = (*(each.secret for each in valid), *self._environment)
        self._next_end = min((each.end for each in valid), default=_NEVER)

    def held(self, secret_id: int) -> StoredSecret | None:
        """The secret that the database keeps under that id, as it is known here."""
        return self._kept.get(secret_id)

    def is_of_environment(self, name: str) -> bool:
        """Whether a secret of that name came from the environment."""
        return any(secret.name == name for secret in self._environment)

    async def refresh_is_wanted(self, seconds: float) -> None:
        """Return once somebody wants a refresh, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._refresh_wanted.wait()

    def refresh_begins(self) -> None:
        """Who wants a refresh from now on wants a further one: what is read may be older than the wish."""
        self._refresh_wanted.clear()

    async def is_used(self) -> None:
        """Return once there are uses to take."""
        await self._used.wait()

    def take_uses(self) -> Mapping[str, datetime]:
        """When each secret was last used, by name, since this was asked last."""
        taken, self._uses = self._uses, {}
        self._used.clear()
        return taken

    def give_back(self, uses: Mapping[str, datetime]) -> None:
        """What could not be written and is to be taken again; a later use counts more."""
        self._uses = {**uses, **self._uses}
        self._used.set()
