"""Which slot of each entry of the schedule was the last to fire."""

from datetime import datetime
from typing import Final

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import from_now
from safevideo_common.database.tables import schedule_fires

_c: Final = schedule_fires.c


async def last_fires(reading: AsyncConnection) -> tuple[datetime, dict[str, datetime]]:
    """The database's time, and the last slot by entry."""
    now = await reading.scalar(select(from_now()))
    assert isinstance(now, datetime)
    rows = await reading.execute(select(_c.name, _c.slot))
    return now, {row.name: row.slot for row in rows}


async def fire(tx: AsyncConnection, name: str, slot: datetime) -> bool:
    """Whether the slot is ours to fire: of all who try it is one, and never again for an earlier slot.

    Raises `DatabaseConflict` for all but one of those who are the first ever at the same moment.
    """
    moved = await tx.execute(update(schedule_fires).where(_c.name == name, _c.slot < slot).values(slot=slot))
    if moved.rowcount:
        return True
    if await tx.scalar(select(_c.name).where(_c.name == name)) is not None:
        return False
    await tx.execute(insert(schedule_fires).values(name=name, slot=slot))
    return True
