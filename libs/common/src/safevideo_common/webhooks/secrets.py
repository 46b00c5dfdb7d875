"""Queries on the secrets that sign webhooks: name, expiry, and last use.

A row with a ciphertext is a secret that the database stores. A row without one belongs to a secret of the environment
and only records its last use. A disabled integration keeps its secrets valid: a rejected webhook may be lost.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, case, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Incoming, Upsert
from safevideo_common.database.tables import integrations, webhook_secrets
from safevideo_common.encryption import Cipher
from safevideo_common.webhooks.signatures import WebhookSecret

NAME: Final = re.compile(r"(?!env-)[a-z0-9][a-z0-9._-]{0,63}")
"""Names of stored secrets. The names of environment secrets begin with `env-`."""

MAX_VALID: Final = 8
"""Valid secrets of one provider. A forged request costs one digest for each."""

_c: Final = webhook_secrets.c


def _used_last(new: Incoming) -> dict[str, ColumnElement[object]]:
    is_later = or_(_c.last_used_at.is_(None), new.last_used_at > _c.last_used_at)
    return {"last_used_at": case((is_later, new.last_used_at), else_=_c.last_used_at)}


_RECORD_ENVIRONMENT_USE: Final = Upsert(webhook_secrets, ("integration_id", "name"), _used_last)


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret as operators see it. For one of the environment, `created_at` is its first use."""

    name: str
    is_stored: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Return True if the secret has not expired."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """A valid secret, encrypted. Its `id` never changes."""

    id: int
    name: str
    ciphertext: bytes = field(repr=False)
    expires_at: datetime | None


def encryption_row(provider: str, name: str) -> str:
    """Return the row to which the cipher of `Purpose.WEBHOOK_SECRET` binds a secret."""
    return f"{provider}/{name}"


def decrypt_secret(cipher: Cipher, provider: str, secret: EncryptedSecret) -> WebhookSecret:
    """Return the secret itself. Raises `DecryptionFailed`, or `ValueError` if its value is no secret."""
    return WebhookSecret(secret.name, cipher.decrypt(secret.ciphertext, encryption_row(provider, secret.name)))


async def add(
    tx: AsyncConnection,
    integration_id: int,
    name: str,
    ciphertext: bytes,
    now: datetime,
    expires_at: datetime | None = None,
) -> None:
    """Store a secret. Raises `ValueError` for an invalid name, `DatabaseConflict` for a name that is in use."""
    if not NAME.fullmatch(name):
        raise ValueError("a secret's name is 1 to 64 lower-case letters, digits, dots, hyphens and underscores")
    row = {"integration_id": integration_id, "name": name, "ciphertext": ciphertext}
    await tx.execute(insert(webhook_secrets).values(**row, created_at=now, expires_at=expires_at))


async def retire(tx: AsyncConnection, integration_id: int, name: str, now: datetime) -> bool:
    """Let a stored secret expire now. Return False if there is no such valid secret."""
    is_valid = and_(_c.ciphertext.is_not(None), or_(_c.expires_at.is_(None), _c.expires_at > now))
    row = and_(_c.integration_id == integration_id, _c.name == name, is_valid)
    return (await tx.execute(update(webhook_secrets).where(row).values(expires_at=now))).rowcount == 1


async def expire(tx: AsyncConnection, integration_id: int, now: datetime, until: datetime) -> None:
    """Let every stored secret that is valid now expire at `until`, unless it expires sooner."""
    lasts_longer = or_(_c.expires_at.is_(None), _c.expires_at > until)
    stored = and_(_c.integration_id == integration_id, _c.ciphertext.is_not(None), lasts_longer)
    await tx.execute(update(webhook_secrets).where(stored).values(expires_at=max(now, until)))


async def find_valid(reading: AsyncConnection, provider: str, now: datetime) -> Sequence[EncryptedSecret]:
    """Return the provider's stored secrets that are not expired, newest first, at most `MAX_VALID`."""
    is_valid = and_(_c.ciphertext.is_not(None), or_(_c.expires_at.is_(None), _c.expires_at > now))
    rows = await reading.execute(_of(provider).where(is_valid).limit(MAX_VALID))
    return [EncryptedSecret(row.id, row.name, row.ciphertext, row.expires_at) for row in rows]


async def find_all(reading: AsyncConnection, provider: str) -> Sequence[SecretRow]:
    """Return all secrets, also expired ones and those of the environment, newest first."""
    rows = await reading.execute(_of(provider))
    return [
        SecretRow(row.name, row.ciphertext is not None, row.created_at, row.expires_at, row.last_used_at)
        for row in rows
    ]


async def record_use(tx: AsyncConnection, integration_id: int, name: str, at: datetime) -> None:
    """Record the use of a stored secret, unless a later use is recorded."""
    is_later = or_(_c.last_used_at.is_(None), _c.last_used_at < at)
    row = and_(_c.integration_id == integration_id, _c.name == name)
    await tx.execute(update(webhook_secrets).where(row, is_later).values(last_used_at=at))


async def record_environment_use(tx: AsyncConnection, integration_id: int, name: str, at: datetime) -> None:
    """Record the use of a secret of the environment. The first use inserts its row."""
    row = {"integration_id": integration_id, "name": name, "created_at": at, "last_used_at": at}
    await tx.execute(_RECORD_ENVIRONMENT_USE.statement(tx.dialect), [row])


def _of(provider: str) -> Select[*tuple[object, ...]]:
    joined = webhook_secrets.join(integrations, integrations.c.id == _c.integration_id)
    of_provider = select(webhook_secrets).select_from(joined).where(integrations.c.provider == provider)
    return of_provider.order_by(_c.created_at.desc(), _c.id.desc())
