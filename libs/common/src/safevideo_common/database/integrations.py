"""The partners that we are connected to: one row a provider."""

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert
from safevideo_common.database.tables import integrations

SHAREGRAM: Final = "sharegram"

_c: Final = integrations.c
_ADD: Final = Upsert(integrations, ("provider",), ("provider",))


async def ensure(tx: AsyncConnection, provider: str, now: datetime) -> int:
    """The id of the provider's row. One that this makes is not enabled: it only holds what belongs to the provider."""
    if (found := await _id_of(tx, provider)) is not None:
        return found
    row = {"provider": provider, "is_enabled": False, "created_at": now, "updated_at": now}
    await tx.execute(_ADD.statement(tx.dialect), [row])  # changes nothing if another was quicker
    made = await _id_of(tx, provider)
    assert made is not None
    return made


async def _id_of(tx: AsyncConnection, provider: str) -> int | None:
    found: int | None = await tx.scalar(select(_c.id).where(_c.provider == provider))
    return found
