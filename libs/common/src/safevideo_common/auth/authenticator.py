"""Authentication by API key: `X-API-Client: <name>` with `X-API-Key: <key>` (contract, §2)."""

import asyncio
import re
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from multidict import CIMultiDictProxy

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import ApiKey
from safevideo_common.auth.principal import Principal
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import CredentialsMissing, SafeVideoError, Unauthorized
from safevideo_common.observability.logs import FilteringBoundLogger

CLIENT_HEADER: Final = "X-API-Client"
KEY_HEADER: Final = "X-API-Key"

CACHE_SECONDS: Final = timedelta(seconds=10)
"""The time for which a verified key is valid without a database read. A revocation takes effect this much later."""

MAX_CACHED_KEYS: Final = 1024
MAX_PENDING_USES: Final = 256

_CLIENT: Final = re.compile(r"[!-~]{1,64}")
_KEY: Final = re.compile(r"[!-~]{1,256}")
_ZERO: Final = timedelta()


class _CachedKey(NamedTuple):
    key: ApiKey
    loaded_at: datetime


class ApiKeyAuthenticator:
    """Identifies systems by the table `api_keys`. It caches at most `MAX_CACHED_KEYS` verified keys, by hash."""

    def __init__(self, database: Database, clock: Clock, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._clock = clock
        self._logger = logger
        self._cache: dict[tuple[str, bytes], _CachedKey] = {}
        self._uses: asyncio.Queue[int] = asyncio.Queue(MAX_PENDING_USES)

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Principal:
        """Return the client. Raises `Unauthorized`, and `DatabaseUnavailable` if the key is not cached."""
        client, secret = headers.get(CLIENT_HEADER, ""), headers.get(KEY_HEADER, "")
        if not (_CLIENT.fullmatch(client) and _KEY.fullmatch(secret)):
            kind = CredentialsMissing if not client and not secret else Unauthorized
            raise kind(f"Send the headers {CLIENT_HEADER} and {KEY_HEADER}.")
        now, cache_key = self._clock(), (client, sha256(secret.encode()).digest())
        if any(len(headers.getall(name)) > 1 for name in (CLIENT_HEADER, KEY_HEADER)):
            raise Unauthorized(f"Send each of the headers {CLIENT_HEADER} and {KEY_HEADER} once.")
        key = self._cached(cache_key, now) or await self._load(cache_key, secret, now)
        if key is None or not key.is_valid(now):
            raise Unauthorized("This API key is not known, or is no longer valid.")
        return Principal(key.client, key.role)

    async def probe(self) -> None:
        """Return if the key store answers; raise `DatabaseUnavailable` if it does not."""
        async with self._database.read_connection() as connection:
            await api_keys.get(connection, 0)

    async def write_uses(self) -> None:
        """Write when keys were last used, until cancelled. A failed write loses only that note."""
        while True:
            key_id = await self._uses.get()
            try:
                async with self._database.transaction() as tx:
                    await api_keys.touch(tx, key_id, self._clock())
            except SafeVideoError as error:
                self._logger.warning("Use of API key not recorded", code=error.code, key_id=key_id)

    def _cached(self, cache_key: tuple[str, bytes], now: datetime) -> ApiKey | None:
        cached = self._cache.get(cache_key)
        # If the clock was set back, the age is negative: the entry must not live longer.
        return cached.key if cached and _ZERO <= now - cached.loaded_at < CACHE_SECONDS else None

    async def _load(self, cache_key: tuple[str, bytes], secret: str, now: datetime) -> ApiKey | None:
        self._cache.pop(cache_key, None)
        async with self._database.read_connection() as connection:
            key = await api_keys.find(connection, cache_key[0], secret, now)
        if key is None:
            return None
        if len(self._cache) >= MAX_CACHED_KEYS:
            del self._cache[next(iter(self._cache))]
        self._cache[cache_key] = _CachedKey(key, now)
        if key.needs_touch(now):
            with suppress(asyncio.QueueFull):  # the next load of the key, in seconds, records the use
                self._uses.put_nowait(key.id)
        return key
