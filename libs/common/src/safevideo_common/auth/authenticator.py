"""API keys: `X-API-Client: <name>` with `X-API-Key: <key>` (contract, §2)."""

import asyncio
import re
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from multidict import CIMultiDictProxy

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import ApiKey
from safevideo_common.auth.guard import Principal
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import SafeVideoError, Unauthorized
from safevideo_common.observability.logs import FilteringBoundLogger

CLIENT_HEADER: Final = "X-API-Client"
KEY_HEADER: Final = "X-API-Key"

CACHE_SECONDS: Final = timedelta(seconds=10)
"""How long a verified key is good without a look into the database; so much later a revocation may take effect."""

MAX_CACHED_KEYS: Final = 1024
MAX_PENDING_USES: Final = 256

_CLIENT: Final = re.compile(r"[!-~]{1,64}")
_KEY: Final = re.compile(r"[!-~]{1,256}")
_NOTHING: Final = timedelta()


class _CachedKey(NamedTuple):
    key: ApiKey
    at: datetime


class ApiKeyAuthenticator:
    """An `Authenticator` on the table `api_keys`. It remembers at most `MAX_CACHED_KEYS` verified keys, by hash."""

    def __init__(self, database: Database, clock: Clock, log: FilteringBoundLogger) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._verified: dict[tuple[str, bytes], _CachedKey] = {}
        self._uses: asyncio.Queue[int] = asyncio.Queue(MAX_PENDING_USES)

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Principal:
        """The client as a principal. Raises `Unauthorized`, or `DatabaseUnavailable` for a key not seen just now."""
        client, secret = headers.get(CLIENT_HEADER, ""), headers.get(KEY_HEADER, "")
        if not (_CLIENT.fullmatch(client) and _KEY.fullmatch(secret)):
            raise Unauthorized(f"Send the headers {CLIENT_HEADER} and {KEY_HEADER}.")
        now = self._clock()
        key = self._remembered(client, secret, now) or await self._looked_up(client, secret, now)
        if key is None or not key.is_valid(now):
            raise Unauthorized("This API key is not known, or is no longer valid.")
        return Principal(key.client, key.role)

    async def probe(self) -> None:
        """Return when the key store answers; raise `DatabaseUnavailable` when it does not."""
        async with self._database.reading() as connection:
            await api_keys.find(connection, "", "", self._clock())

    async def write_uses(self) -> None:
        """Write when keys were last used, beside the requests, until cancelled. A failed write costs its note only."""
        while True:
            key_id = await self._uses.get()
            try:
                async with self._database.transaction() as tx:
                    await api_keys.touch(tx, key_id, self._clock())
            except SafeVideoError as error:
                self._log.warning("API key's use not noted", code=error.code, key_id=key_id)

    def _remembered(self, client: str, secret: str, now: datetime) -> ApiKey | None:
        verified = self._verified.get((client, _digest(secret)))
        # A clock that was set back must not make it good for longer.
        return verified.key if verified and _NOTHING <= now - verified.at < CACHE_SECONDS else None

    async def _looked_up(self, client: str, secret: str, now: datetime) -> ApiKey | None:
        self._verified.pop((client, _digest(secret)), None)
        async with self._database.reading() as connection:
            key = await api_keys.find(connection, client, secret, now)
        if key is not None:
            self._remember(client, secret, _CachedKey(key, now))
            if key.needs_touch(now):
                with suppress(asyncio.QueueFull):  # its next look-up, in seconds, notes it
                    self._uses.put_nowait(key.id)
        return key

    def _remember(self, client: str, secret: str, verified: _CachedKey) -> None:
        if len(self._verified) >= MAX_CACHED_KEYS:
            del self._verified[next(iter(self._verified))]
        self._verified[client, _digest(secret)] = verified


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
