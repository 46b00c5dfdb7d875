"""The partners that we are connected to: one row per provider."""

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert, for_update
from safevideo_common.database.tables import integrations

SHAREGRAM: Final = "sharegram"

_c: Final = integrations.c
_ADD: Final = Upsert(integrations, ("provider",), ("provider",))


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
