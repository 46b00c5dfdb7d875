"""SQL of the decisions that operators made by hand. The database's clock says when one has ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert, now_plus
from safevideo_common.database.tables import overrides

SHAREGRAM: Final = "sharegram"
"""The name of the only breaker and provider."""

_c: Final = overrides.c
_PUT: Final = Upsert(overrides, ("name",), ("action", "started_at", "ends_at", "changed_at", "actor", "reason"))
_SELECT: Final = select(overrides, now_plus().label("now"))


class Action(StrEnum):
    """A decision about a breaker or about fallback mode."""

    OPEN = "open"
    CLOSE = "close"
    RESET = "reset"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Override:
    """A row: the last decision about one breaker, or about fallback mode."""

    name: str
    action: Action
    started_at: datetime
    """An extension keeps it."""
    ends_at: datetime | None
    changed_at: datetime
    actor: str
    reason: str
    now: datetime
    """The database's time when the row was read."""

    @property
    def seconds_left(self) -> float:
        """Return how long it still holds; 0 if it has ended, or never held for a time."""
        return max(0.0, (self.ends_at - self.now).total_seconds()) if self.ends_at else 0.0

    @property
    def seconds_since(self) -> float:
        """Return how long it has held."""
        return max(0.0, (self.now - self.started_at).total_seconds())


def breaker_key(breaker: str) -> str:
    """Return the name of a breaker's row."""
    return f"breaker:{breaker}"


def fallback_key(provider: str) -> str:
    """Return the name of the row of a provider's fallback mode."""
    return f"fallback:{provider}"


async def find_all(connection: AsyncConnection) -> dict[str, Override]:
    """Return all decisions by name. There are a handful."""
    return {row.name: _override(row) for row in await connection.execute(_SELECT)}


async def find(connection: AsyncConnection, name: str) -> Override | None:
    """Return the decision of this name."""
    row = (await connection.execute(_SELECT.where(_c.name == name))).first()
    return None if row is None else _override(row)


async def put(
    tx: AsyncConnection, name: str, action: Action, *, seconds: float | None, actor: str, reason: str
) -> tuple[Override, bool]:
    """Write a decision. Return it, and whether it extends or shortens one that still holds."""
    before = await find(tx, name)
    now = await tx.scalar(select(now_plus()))
    assert now is not None
    is_extension = before is not None and before.action is action and before.seconds_left > 0
    row = {
        "name": name,
        "action": action.value,
        "started_at": before.started_at if before is not None and is_extension else now,
        "ends_at": None if seconds is None else now + timedelta(seconds=seconds),
        "changed_at": now,
        "actor": actor,
        "reason": reason,
    }
    await tx.execute(_PUT.statement(tx.dialect), [row])
    after = await find(tx, name)
    assert after is not None
    return after, is_extension


async def end(tx: AsyncConnection, name: str) -> bool:
    """Switch off what has ended by itself. Return True in one process only, which records it."""
    ended = update(overrides).where(_c.name == name, _c.action == Action.ON.value, _c.ends_at <= now_plus())
    return bool((await tx.execute(ended.values(action=Action.OFF.value, changed_at=now_plus()))).rowcount)


def _override(row: Row[*tuple[object, ...]]) -> Override:
    return Override(
        row.name, Action(row.action), row.started_at, row.ends_at, row.changed_at, row.actor, row.reason, row.now
    )
