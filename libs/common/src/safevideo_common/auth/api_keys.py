"""Keys of the systems that call our API. A key is shown once, when it is created; the table has only its hash."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import api_keys

PREFIX: Final = "sv_"
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


_c: Final = api_keys.c
_COLUMNS: Final = (_c.id, _c.client, _c.role, _c.created_at, _c.expires_at, _c.last_used_at, _c.revoked_at)


async def create(
    tx: AsyncConnection, client: str, role: Role, now: datetime, expires_at: datetime | None = None
) -> str:
    """Create a key for `client` and return it; it cannot be read again. Raises `ValueError` for an invalid name."""
    if not CLIENT_NAME.fullmatch(client):
        raise ValueError("a client's name is 1 to 64 letters, digits, dots, hyphens and underscores")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"client": client, "key_hash": _hash(key), "role": role, "created_at": now, "expires_at": expires_at}
    await tx.execute(insert(api_keys).values(row))
    return key


async def find(connection: AsyncConnection, client: str, key: str, now: datetime) -> ApiKey | None:
    """Return the key if it is this client's and valid. The comparison takes constant time."""
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


def _hash(key: str) -> str:
    return sha256(key.encode(errors="surrogateescape")).hexdigest()  # a header may hold any bytes


def _api_key(row: Row[*tuple[object, ...]]) -> ApiKey:
    return ApiKey(row.id, row.client, Role(row.role), row.created_at, row.expires_at, row.last_used_at, row.revoked_at)
