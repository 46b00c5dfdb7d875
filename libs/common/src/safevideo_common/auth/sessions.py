"""The sessions of people, in Redis DB 2 (contract, §3): `sso:session:{id}` and `sso:user:{userId}:sessions`.

Guarantees:

- A session lives for 24 hours from its sign-in. Nothing writes it again, so no request brings an ended one back.
- A sign-in that was in progress when its user, its subject or its `sid` was signed out gets no session.
- A key has our prefix, ids of ours and digests only, so `redis-cli --scan | xargs` handles every key.
- The id of a session opens nothing. Whoever uses it shows the secret, of which Redis has the hash alone.
- A session names the generation of its account. It ends at once when the account has another one, without Redis; what
  is deleted here afterwards only tidies up. So a database that goes back, and gives an id twice, opens no session of
  the former account.

The marks of a sign-out are keys of `sso:*` too. Deleting all of them signs everyone out and harms nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.tasks import preserve_cancellation, reset_as_os_error

SSO_DB: Final = 2
USES_KEY: Final = "sso:uses"
"""When sessions were last used, by their ids (`auth/session_uses.py`)."""
LIFETIME: Final = timedelta(hours=24)
MAX_SESSIONS_PER_USER: Final = 100
"""With one more the oldest ends. Likewise of a subject, and of a provider's own session."""

_PREFIX: Final = "sso:"
_SECONDS: Final = int(LIFETIME.total_seconds())
_CLEAR_BATCH: Final = 500

_CREATE: Final = """
local id, document, seconds, now, began, issued, most = unpack(ARGV)
local marks = redis.call('MGET', KEYS[4], KEYS[5], KEYS[7] or KEYS[4])
local function is_after(mark, at) return mark and tonumber(mark) > tonumber(at) end
if is_after(marks[1], began) or is_after(marks[2], issued) or (KEYS[7] and marks[3]) then
  return 0
end
redis.call('SET', KEYS[1], document, 'EX', seconds)
for index, score in pairs({[2] = now, [3] = issued, [6] = issued}) do
  local key = KEYS[index]
  if key then
    redis.call('ZADD', key, score, id)
    redis.call('EXPIRE', key, seconds)
    -- Each sign-in renews the expiry, so without a bound a busy account's set would keep every id for ever.
    while redis.call('ZCARD', key) > tonumber(most) do
      redis.call('DEL', 'sso:session:' .. redis.call('ZPOPMIN', key)[1])
    end
  end
end
return 1
"""
"""The keys are: session; sessions of the user, of the subject; marks of the user, of the subject; sessions and mark of
the provider's own session, if the token named one."""

_END_USER: Final = """
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  ended = ended + redis.call('DEL', 'sso:session:' .. id)
end
redis.call('DEL', KEYS[1])
return ended
"""

_END_NAMED: Final = """
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then return -1 end
local mark = redis.call('GET', KEYS[3])
if not mark or tonumber(mark) < tonumber(ARGV[2]) then redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[3]) end
local ended = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])) do
  ended = ended + redis.call('DEL', 'sso:session:' .. id)
  redis.call('ZREM', KEYS[2], id)
end
return ended
"""
"""For a subject. The mark of a `sid` is set in the same way and never compared with a time."""


class SessionsUnavailable(ServiceUnavailable):
    """Redis does not answer, so no session can be checked, made or ended."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A sign-in that succeeded and needs a session."""

    user_id: int
    generation: str
    """Of the account, as the transaction of the sign-in has read it."""
    provider: str
    issuer: str
    subject: str
    sid: str | None
    """The provider's own session, if its token named one."""
    token_issued_at: datetime
    """By the provider's clock, as the `iat` of a logout token is."""
    began_at: datetime
    """When this sign-in reached us, by the time of Redis (`SessionStore.now`)."""
    address: str | None = None
    """The client's. It is in the session alone, and ends with it."""


@dataclass(frozen=True, slots=True)
class UserSession:
    """A session. Times are by the clock of Redis."""

    id: str
    user_id: int
    generation: str
    provider: str
    created_at: datetime
    expires_at: datetime
    secret_hash: bytes
    address: str | None = None
    """The client's at the sign-in."""

    def is_opened_by(self, secret: str) -> bool:
        """Return whether `secret` is this session's. It takes constant time."""
        return compare_digest(self.secret_hash, sha256(secret.encode()).digest())


class _Record(msgspec.Struct, frozen=True):
    user: int
    provider: str
    created: float
    secret: bytes
    generation: str = ""
    address: str | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Record).decode


class SessionStore:
    """All sessions. Every method raises `SessionsUnavailable`; none tries twice."""

    def __init__(self, redis: Redis, *, seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._seconds = seconds
        self._create = redis.register_script(_CREATE)
        self._end_user = redis.register_script(_END_USER)
        self._end_named = redis.register_script(_END_NAMED)

    async def now(self) -> datetime:
        """Return the time of Redis, which is the same for all replicas."""
        async with self._translate_errors():
            seconds, micros = await self._redis.time()
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)

    async def create(self, new: NewSession) -> tuple[UserSession, str] | None:
        """Make a session and its secret, which cannot be read again. Return None if it was signed out meanwhile."""
        session_id, secret = token_urlsafe(24), token_urlsafe(32)
        created_at = await self.now()
        record = _Record(
            new.user_id, new.provider, created_at.timestamp(), sha256(secret.encode()).digest(), new.generation,
            new.address,
        )  # fmt: skip
        subject = _digest(new.issuer, new.subject)
        keys = [
            _session_key(session_id), _user_key(new.user_id), f"sso:subject:{subject}:sessions",
            f"sso:user:{new.user_id}:ended", f"sso:subject:{subject}:ended",
        ]  # fmt: skip
        if new.sid is not None:
            sid = _digest(new.issuer, new.sid)
            keys += [f"sso:sid:{sid}:sessions", f"sso:sid:{sid}:ended"]
        arguments: list[bytes | str | int] = [
            session_id, _encode(record), _SECONDS, _milliseconds(created_at), _milliseconds(new.began_at),
            int(new.token_issued_at.timestamp()), MAX_SESSIONS_PER_USER,
        ]  # fmt: skip
        async with self._translate_errors():
            is_created = await self._create(keys, arguments)
        return (_session(session_id, record), secret) if is_created else None

    async def find(self, session_id: str) -> UserSession | None:
        """Return the session, or None if there is none, or no longer."""
        async with self._translate_errors():
            value = await self._redis.get(_session_key(session_id))
        return _parse(session_id, value)

    async def of_user(self, user_id: int) -> list[UserSession]:
        """Return the sessions of a user, the oldest first."""
        async with self._translate_errors():
            found = await self._redis.zrange(_user_key(user_id), 0, -1)
            ids = [each.decode() for each in found if isinstance(each, bytes)]
            values = await self._redis.mget([_session_key(each) for each in ids]) if ids else []
        sessions = (_parse(session_id, value) for session_id, value in zip(ids, values, strict=True))
        return [session for session in sessions if session is not None]

    async def last_uses(self, session_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Return when sessions were last used, to the minute. One that was not used since is not among them."""
        if not session_ids:
            return {}
        async with self._translate_errors():
            scores = await self._redis.zmscore(USES_KEY, list(session_ids))
        found = zip(session_ids, scores, strict=True)
        return {each: datetime.fromtimestamp(float(score), UTC) for each, score in found if score is not None}

    async def end(self, user_id: int, session_id: str) -> None:
        """End one session of a user."""
        async with self._translate_errors(), self._redis.pipeline(transaction=False) as pipeline:
            _ = pipeline.delete(_session_key(session_id))
            _ = pipeline.zrem(_user_key(user_id), session_id)
            await pipeline.execute()

    async def end_user(self, user_id: int) -> int:
        """End all sessions of a user, and the sign-ins in progress. Return the number of sessions."""
        now = await self.now()
        async with self._translate_errors():
            keys = [_user_key(user_id), f"sso:user:{user_id}:ended"]
            return int(await self._end_user(keys, [_milliseconds(now), _SECONDS]))

    async def tidy(self, user_ids: Collection[int]) -> None:
        """Delete sessions whose generation has ended. They open nothing, so it is no error if Redis does not answer."""
        with suppress(SessionsUnavailable):
            for user_id in user_ids:
                await self.end_user(user_id)

    async def end_by_logout_token(
        self, issuer: str, *, jti: str, subject: str | None, sid: str | None, issued_at: datetime, valid_seconds: int
    ) -> int | None:
        """End what a logout token names: the sessions of its `sid`, else those of its subject that are not newer.

        Return the number of sessions, or None if the token was used before. `valid_seconds` is how long a repetition
        of the token would be accepted.
        """
        name = f"sid:{_digest(issuer, sid)}" if sid is not None else f"subject:{_digest(issuer, subject or '')}"
        keys = [f"sso:jti:{_digest(issuer, jti)}", f"sso:{name}:sessions", f"sso:{name}:ended"]
        latest = 1 << 40 if sid is not None else int(issued_at.timestamp())
        async with self._translate_errors():
            ended = int(await self._end_named(keys, [max(valid_seconds, 1), latest, _SECONDS]))
        return None if ended < 0 else ended

    async def clear(self) -> int:
        """Delete every key of sign-in. Everyone is signed out. Return the number of sessions."""
        ended, batch = 0, list[bytes]()
        async with self._translate_errors(60):
            async for key in self._redis.scan_iter(f"{_PREFIX}*", count=_CLEAR_BATCH):
                ended += key.startswith(b"sso:session:")
                batch.append(key)
                if len(batch) >= _CLEAR_BATCH:
                    await self._redis.delete(*batch)
                    batch.clear()
            if batch:
                await self._redis.delete(*batch)
        return ended

    @asynccontextmanager
    async def _translate_errors(self, seconds: float | None = None) -> AsyncIterator[None]:
        try:
            with preserve_cancellation(), reset_as_os_error():
                async with asyncio.timeout(seconds or self._seconds):
                    yield
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise SessionsUnavailable("Sessions cannot be checked now.", retry_after=5) from error


def _session(session_id: str, record: _Record) -> UserSession:
    created_at = datetime.fromtimestamp(record.created, UTC)
    return UserSession(
        session_id,
        record.user,
        record.generation,
        record.provider,
        created_at,
        created_at + LIFETIME,
        record.secret,
        record.address,
    )


def _parse(session_id: str, value: object) -> UserSession | None:
    """Return the session in `value`. What someone else has written there counts as none."""
    if not isinstance(value, bytes):
        return None
    try:
        return _session(session_id, _decode(value))
    except msgspec.DecodeError:
        return None


def _session_key(session_id: str) -> str:
    # An id of ours is safe as it is. Whatever else a caller sends must not become a key as it came.
    is_ours = len(session_id) <= 64 and session_id.replace("-", "").replace("_", "").isalnum() and session_id.isascii()
    return f"sso:session:{session_id if is_ours else 'none'}"


def _user_key(user_id: int) -> str:
    return f"sso:user:{user_id}:sessions"


def _digest(issuer: str, value: str) -> str:
    return sha256(f"{len(issuer)} {issuer} {value}".encode(errors="surrogatepass")).hexdigest()


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
