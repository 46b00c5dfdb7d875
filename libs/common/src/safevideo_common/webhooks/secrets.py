"""The secrets that webhooks are signed with: name, expiry, and when each was last used.

A row with a ciphertext is a secret kept here. A row without one stands for a secret of the environment and says when it
was last used, no more. Whether an integration is enabled has no part in this: a webhook that is refused may be lost.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Row, Select, and_, case, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Incoming, Upsert
from safevideo_common.database.tables import integrations, webhook_secrets

NAME: Final = re.compile(r"(?!env-)[a-z0-9][a-z0-9._-]{0,63}")
"""Of a secret kept here; those of the environment begin with `env-`."""

MAX_VALID: Final = 8
"""Secrets of one provider that count at once: a forged request costs one digest for each."""

_c: Final = webhook_secrets.c


def _used_last(new: Incoming) -> dict[str, ColumnElement[object]]:
    is_later = or_(_c.last_used_at.is_(None), new.last_used_at > _c.last_used_at)
    return {"last_used_at": case((is_later, new.last_used_at), else_=_c.last_used_at)}


_NOTE_ENVIRONMENT_USE: Final = Upsert(webhook_secrets, ("integration_id", "name"), _used_last)


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret as it may be shown. `is_kept_here` or held by the environment, which `created_at` first saw it used."""

    name: str
    is_kept_here: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether its time is not over."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """A secret that is valid, encrypted. `id` stays the same for its life."""

    id: int
    name: str
    ciphertext: bytes = field(repr=False)
    expires_at: datetime | None


async def add(
    tx: AsyncConnection,
    integration_id: int,
    name: str,
    ciphertext: bytes,
    now: datetime,
    expires_at: datetime | None = None,
) -> None:
    """Keep a secret. Raises `ValueError` for an improper name; `DatabaseConflict` when the name is taken."""
    if not NAME.fullmatch(name):
        raise ValueError("a secret's name is 1 to 64 lower-case letters, digits, dots, hyphens and underscores")
    row = {"integration_id": integration_id, "name": name, "ciphertext": ciphertext}
    await tx.execute(insert(webhook_secrets).values(**row, created_at=now, expires_at=expires_at))


async def valid(reading: AsyncConnection, provider: str, now: datetime) -> Sequence[EncryptedSecret]:
    """The provider's secrets kept here that are not expired, newest first, `MAX_VALID` at most."""
    is_valid = and_(_c.ciphertext.is_not(None), or_(_c.expires_at.is_(None), _c.expires_at > now))
    rows = await reading.execute(_of(provider).where(is_valid).limit(MAX_VALID))
    return [EncryptedSecret(row.id, row.name, row.ciphertext, row.expires_at) for row in rows]


async def listed(reading: AsyncConnection, provider: str) -> Sequence[SecretRow]:
    """All there are, those that are expired and those of the environment included, newest first."""
    return [_stored(row) for row in await reading.execute(_of(provider))]


async def record_use(tx: AsyncConnection, integration_id: int, name: str, at: datetime) -> None:
    """Note when a secret kept here was used, unless a later use is noted already."""
    is_older = or_(_c.last_used_at.is_(None), _c.last_used_at < at)
    is_it = and_(_c.integration_id == integration_id, _c.name == name)
    await tx.execute(update(webhook_secrets).where(is_it, is_older).values(last_used_at=at))


async def record_environment_use(tx: AsyncConnection, integration_id: int, name: str, at: datetime) -> None:
    """The same for a secret of the environment, whose row begins with its first use."""
    row = {"integration_id": integration_id, "name": name, "created_at": at, "last_used_at": at}
    await tx.execute(_NOTE_ENVIRONMENT_USE.statement(tx.dialect), [row])


def _of(provider: str) -> Select[*tuple[object, ...]]:
    joined = webhook_secrets.join(integrations, integrations.c.id == _c.integration_id)
    of_provider = select(webhook_secrets).select_from(joined).where(integrations.c.provider == provider)
    return of_provider.order_by(_c.created_at.desc(), _c.id.desc())


def _stored(row: Row[*tuple[object, ...]]) -> SecretRow:
    return SecretRow(row.name, row.ciphertext is not None, row.created_at, row.expires_at, row.last_used_at)
