"""The sign-ins in progress in browsers, in Redis: `sso:signin:{digest of the state}`, for ten minutes.

A sign-in is taken once, and only by the browser that began it. At most `MAX_PENDING` exist; the oldest give way.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.sign_in.cookies import PENDING_SECONDS
from gateway.sign_in.provider import CodeChallenge
from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.errors import SsoUnavailable
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

MAX_PENDING: Final = 20_000

_BEGIN: Final = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] * 1000000 + now[2], KEYS[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', (now[1] - ARGV[2]) * 1000000)
local excess = redis.call('ZCARD', KEYS[2]) - ARGV[3]
if excess > 0 then
  local oldest = redis.call('ZPOPMIN', KEYS[2], excess)
  for index = 1, #oldest, 2 do redis.call('DEL', oldest[index]) end
end
"""

_TAKE: Final = """
local document = redis.call('GET', KEYS[1])
if not document then return {redis.call('GET', KEYS[2]), 0} end
if cjson.decode(document)['browser'] ~= ARGV[1] then return {false, 0} end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], KEYS[1])
redis.call('SET', KEYS[2], document, 'EX', ARGV[2])
return {document, 1}
"""


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that waits for its callback."""

    provider: str
    return_to: str
    secrets: CodeChallenge


class PendingCallback(NamedTuple):
    """The sign-in that a callback belongs to."""

    sign_in: PendingSignIn
    is_first: bool
    """False if a callback took it before. Then it signs nobody in."""


class _Record(msgspec.Struct, frozen=True):
    provider: str
    return_to: str
    verifier: str
    nonce: str
    browser: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Record).decode
_INDEX: Final = "sso:signins"


class PendingSignIns:
    """All sign-ins in progress. Every method raises `SsoUnavailable` if Redis does not answer."""

    def __init__(self, redis: Redis, *, seconds: float = ANSWER_SECONDS, max_pending: int = MAX_PENDING) -> None:
        self._seconds = seconds
        self._max_pending = max_pending
        self._begin = redis.register_script(_BEGIN)
        self._take = redis.register_script(_TAKE)

    async def begin(self, provider: str, return_to: str) -> tuple[PendingSignIn, str, str]:
        """Return a new sign-in, its `state`, and the secret that binds it to the browser."""
        state, browser_secret = token_urlsafe(24), token_urlsafe(24)
        secrets = CodeChallenge(token_urlsafe(48), token_urlsafe(24))
        record = _Record(provider, return_to, secrets.verifier, secrets.nonce, _digest(browser_secret))
        async with self._translate_errors():
            await self._begin([_key(state), _INDEX], [_encode(record), PENDING_SECONDS, self._max_pending])
        return PendingSignIn(provider, return_to, secrets), state, browser_secret

    async def take(self, state: str, browser_secret: str) -> PendingCallback | None:
        """Return the sign-in, or None if there is none or another browser began it.

        The first call takes it. For ten minutes later calls still learn where it leads.
        """
        keys = [_key(state), f"sso:signin-used:{_digest(state)}", _INDEX]
        async with self._translate_errors():
            document, is_first = await self._take(keys, [_digest(browser_secret), PENDING_SECONDS])
        if not document:
            return None
        try:
            record = _decode(document)
        except msgspec.DecodeError:
            return None
        secrets = CodeChallenge(record.verifier, record.nonce)
        return PendingCallback(PendingSignIn(record.provider, record.return_to, secrets), bool(is_first))

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        try:
            with preserve_cancellation(), reset_as_os_error():
                async with asyncio.timeout(self._seconds):
                    yield
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise SsoUnavailable("No sign-in can begin now.", retry_after=5) from error


def _key(state: str) -> str:
    return f"sso:signin:{_digest(state)}"


def _digest(value: str) -> str:
    return sha256(value.encode(errors="replace")).hexdigest()
