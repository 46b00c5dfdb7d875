"""Leases: one process at a time owns a name, for as long as it renews the lease.

Time is the database's, so different clocks do no harm. A holder that was frozen past its lease may continue shortly
although another process has it. Work under a lease must tolerate that, or call `renew` in the transaction that writes
and roll back if another process has had the lease since.
"""

from typing import Final

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert, now_plus
from safevideo_common.database.tables import leases

_c: Final = leases.c
_is_mine: Final = and_(_c.name == bindparam("of"), _c.holder == bindparam("by"))
_is_free: Final = and_(_c.name == bindparam("of"), _c.expires_at <= now_plus())
_FIRST: Final = Upsert(leases, ("name",), ("name",))  # of two concurrent inserts, the later one changes nothing


async def acquire(tx: AsyncConnection, name: str, holder: str, seconds: float) -> bool:
    """Acquire a free lease, or extend `holder`'s own. Return whether `holder` has it for `seconds` from now.

    Until the transaction ends, others wait for it. `name` and `holder` have at most 64 characters; each process must
    use a new `holder`.
    """
    acquiring = update(leases).where(or_(_is_mine, _is_free)).values(holder=holder, expires_at=now_plus(seconds))
    if (await tx.execute(acquiring, {"of": name, "by": holder})).rowcount:
        return True
    first = _FIRST.statement(tx.dialect).values(name=name, holder=holder, expires_at=now_plus(seconds))
    await tx.execute(first)
    return await tx.scalar(select(_c.holder).where(_c.name == name)) == holder


async def renew(tx: AsyncConnection, name: str, holder: str, seconds: float) -> bool:
    """Extend the lease and return True if `holder` was the last to have it.

    Unlike after `acquire`, the state that `holder` has read before is still valid: no other process had the lease.
    """
    extending = update(leases).where(_is_mine).values(expires_at=now_plus(seconds))
    return bool((await tx.execute(extending, {"of": name, "by": holder})).rowcount)


async def release(tx: AsyncConnection, name: str, holder: str) -> None:
    """Release the lease. Does nothing if `holder` does not have it any more."""
    await tx.execute(update(leases).where(_is_mine).values(expires_at=now_plus()), {"of": name, "by": holder})
