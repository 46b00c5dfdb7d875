"""The partners that we are connected to: one row per provider."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert, for_update, now_plus
from safevideo_common.database.tables import integrations

SHAREGRAM: Final = "sharegram"

_c: Final = integrations.c
_ADD: Final = Upsert(integrations, ("provider",), ("provider",))


@dataclass(frozen=True, slots=True)
class Integration:
    """The configuration by an administrator. None in a field: the environment decides."""

    is_enabled: bool
    configured_at: datetime
    credentials: bytes | None
    """Encrypted."""
    webhook_url: str | None
    is_sso_enabled: bool | None
    is_kyc_enabled: bool | None
    sync_interval_seconds: int | None


async def find(connection: AsyncConnection, provider: str) -> Integration | None:
    """Return the configuration; None if nobody has enabled or disabled the integration yet."""
    row = (await connection.execute(select(integrations).where(_c.provider == provider))).one_or_none()
    if row is None or row.configured_at is None:
        return None
    return Integration(
        row.is_enabled,
        row.configured_at,
        row.credentials,
        row.webhook_url,
        row.is_sso_enabled,
        row.is_kyc_enabled,
        row.sync_interval_seconds,
    )


async def configure(
    tx: AsyncConnection, integration_id: int, *, is_enabled: bool, values: Mapping[str, object]
) -> None:
    """Enable or disable the integration. `values` are the columns that change; the others stay.

    The time is the database's, so that a later change has a later time, whoever makes it.
    """
    now = await tx.scalar(select(now_plus()))
    changed = {"is_enabled": is_enabled, "configured_at": now, "updated_at": now, **values}
    await tx.execute(update(integrations).where(_c.id == integration_id).values(**changed))


async def ensure(tx: AsyncConnection, provider: str, now: datetime) -> int:
    """Return the id of the provider's row. A new row is not enabled: it is only the owner of other rows."""
    if (existing := await _id_of(tx, provider)) is not None:
        return existing
    row = {"provider": provider, "is_enabled": False, "created_at": now, "updated_at": now}
    await tx.execute(_ADD.statement(tx.dialect), [row])  # changes nothing if another transaction was first
    created = await _id_of(tx, provider)
    assert created is not None
    return created


async def lock(tx: AsyncConnection, integration_id: int) -> None:
    """Lock the row until the transaction ends: what changes the integration happens one after the other."""
    await tx.execute(for_update(select(_c.id).where(_c.id == integration_id)))


async def _id_of(tx: AsyncConnection, provider: str) -> int | None:
    row_id: int | None = await tx.scalar(select(_c.id).where(_c.provider == provider))
    return row_id
