"""Keys of the systems that call our API. A key is shown once, when it is created; the table has only its hash.

A key is `safevideo_`, 43 random characters and a checksum of 6, as GitHub's tokens are. So scanners for secrets find it
by one pattern, and a mistyped or invented key is refused without a query.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final, NamedTuple
from zlib import crc32

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import api_keys

PREFIX: Final = "safevideo_"
KEY: Final = re.compile(PREFIX + r"([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
CLIENT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
TOUCH_EVERY: Final = timedelta(minutes=1)


class Role(StrEnum):
    """The permission of a caller. Each endpoint names all roles that may call it."""

    USER = "user"
    PERFORMER = "performer"
    MODERATOR = "moderator"
    AUDITOR = "auditor"
    """Reads events, jobs and the audit log, and changes nothing."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: int
    client: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def needs_touch(self, now: datetime) -> bool:
        """Return whether `touch` would write, which saves a transaction that would not."""
        return self.last_used_at is None or self.last_used_at <= now - TOUCH_EVERY


class RotatedKey(NamedTuple):
    """A key that replaces another, which is valid until `old_expires_at`."""

    key: ApiKey
    secret: str
    old_expires_at: datetime


_ALPHABET: Final = digits + ascii_uppercase + ascii_lowercase
_RANDOM_LENGTH: Final = 43
"""256 bits in base 62."""
_CHECKSUM_LENGTH: Final = 6

_c: Final = api_keys.c
_COLUMNS: Final = (_c.id, _c.client, _c.role, _c.created_at, _c.expires_at, _c.last_used_at, _c.revoked_at)


async def create(
    tx: AsyncConnection, client: str, role: Role, now: datetime, expires_at: datetime | None = None
) -> str:
    """Create a key for `client` and return it; it cannot be read again. Raises `ValueError` for an invalid name."""
    if not CLIENT_NAME.fullmatch(client):
        raise ValueError("a client's name is 1 to 64 letters, digits, dots, hyphens and underscores")
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    key = PREFIX + random + _checksum(random)
    row = {"client": client, "key_hash": _hash(key), "role": role, "created_at": now, "expires_at": expires_at}
    await tx.execute(insert(api_keys).values(row))
    return key


def is_well_formed(key: str) -> bool:
    """Return whether the key may be one of ours: its form and its checksum are right."""
    match = KEY.fullmatch(key)
    return match is not None and match[2] == _checksum(match[1])


async def find(connection: AsyncConnection, client: str, key: str, now: datetime) -> ApiKey | None:
    """Return the key if it is this client's and valid. The comparison takes constant time."""
    if not is_well_formed(key):
        return None
    digest = _hash(key)
    rows = await connection.execute(select(*_COLUMNS, _c.key_hash).where(_c.client == client, _c.revoked_at.is_(None)))
    matching = [_api_key(row) for row in rows if compare_digest(row.key_hash, digest)]
    return next((each for each in matching if each.is_valid(now)), None)


async def touch(tx: AsyncConnection, key_id: int, now: datetime) -> None:
    """Record that the key was used, at most once every `TOUCH_EVERY`."""
    is_old = or_(_c.last_used_at.is_(None), _c.last_used_at <= now - TOUCH_EVERY)
    await tx.execute(update(api_keys).where(_c.id == key_id, is_old).values(last_used_at=now))


async def all_keys(connection: AsyncConnection) -> list[ApiKey]:
    """Return every key, including the revoked and expired ones."""
    rows = await connection.execute(select(*_COLUMNS).order_by(_c.id))
    return [_api_key(row) for row in rows]


async def revoke(tx: AsyncConnection, key_id: int, now: datetime) -> bool:
    """Revoke the key. Return False if there is no such key, or if it was revoked before."""
    result = await tx.execute(update(api_keys).where(_c.id == key_id, _c.revoked_at.is_(None)).values(revoked_at=now))
    return result.rowcount == 1


async def rotate(tx: AsyncConnection, key_id: int, now: datetime, overlap: timedelta) -> RotatedKey | None:
    """Create a key with the client, role and lifetime of this one, which expires after `overlap`.

    Return None if there is no such key, or if it does not outlive the overlap: it is revoked, or was rotated before.
    So of two rotations at once one succeeds.
    """
    until = now + overlap
    outlives = or_(_c.expires_at.is_(None), _c.expires_at > until)
    ending = update(api_keys).where(_c.id == key_id, _c.revoked_at.is_(None), outlives)
    before = await get(tx, key_id)
    if before is None or not (await tx.execute(ending.values(expires_at=until))).rowcount:
        return None
    lifetime = None if before.expires_at is None else before.expires_at - before.created_at
    secret = await create(tx, before.client, before.role, now, None if lifetime is None else now + lifetime)
    created = await find(tx, before.client, secret, now)
    assert created is not None
    return RotatedKey(created, secret, until)


async def get(connection: AsyncConnection, key_id: int) -> ApiKey | None:
    """Return the key, also if it is revoked or expired."""
    row = (await connection.execute(select(*_COLUMNS).where(_c.id == key_id))).one_or_none()
    return None if row is None else _api_key(row)


def _checksum(random: str) -> str:
    """Return the CRC-32 of the random part in base 62."""
    number, text = crc32(random.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _api_key(row: Row[*tuple[object, ...]]) -> ApiKey:
    return ApiKey(row.id, row.client, Role(row.role), row.created_at, row.expires_at, row.last_used_at, row.revoked_at)
