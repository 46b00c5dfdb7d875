"""Leases: of all processes, one at a time has a name to itself, for as long as it keeps extending it.

Time is the database's, so clocks that differ do no harm. A holder that was frozen past its lease may go on for a moment
without knowing that another has it: what is done under a lease must stand that, or call `renew` in the transaction
that writes, and roll it back when another has had the lease since.
"""

from typing import Final

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert, now_plus
from safevideo_common.database.tables import leases

_c: Final = leases.c
_is_mine: Final = and_(_c.name == bindparam("of"), _c.holder == bindparam("by"))
_is_free: Final = and_(_c.name == bindparam("of"), _c.expires_at <= now_plus())
_FIRST: Final = Upsert(leases, ("name",), ("name",))  # of two at once, the later one leaves the row as it is


async def acquire(tx: AsyncConnection, name: str, holder: str, seconds: float) -> bool:
    """Take the lease if it is free, extend it if it is `holder`'s; whether `holder` has it for `seconds` from now.

    Until the transaction ends nobody else can take it: they wait. `name` and `holder` have at most 64 characters; a
    `holder` must be new for each process and never used again.
    """
    taking = update(leases).where(or_(_is_mine, _is_free)).values(holder=holder, expires_at=now_plus(seconds))
    taken = await tx.execute(taking, {"of": name, "by": holder})
    if taken.rowcount:
        return True
    first = _FIRST.statement(tx.dialect).values(name=name, holder=holder, expires_at=now_plus(seconds))
    await tx.execute(first)
    return await tx.scalar(select(_c.holder).where(_c.name == name)) == holder


async def renew(tx: AsyncConnection, name: str, holder: str, seconds: float) -> bool:
    """Extend the lease if it was `holder`'s last, and say whether it was.

    Unlike `acquire` it is no new beginning: what `holder` knew from before is still so, since nobody else has had it.
    """
    extending = update(leases).where(_is_mine).values(expires_at=now_plus(seconds))
    return bool((await tx.execute(extending, {"of": name, "by": holder})).rowcount)


async def release(tx: AsyncConnection, name: str, holder: str) -> None:
    """Let another take it at once. Does nothing if it is not `holder`'s any more."""
    await tx.execute(update(leases).where(_is_mine).values(expires_at=now_plus()), {"of": name, "by": holder})
