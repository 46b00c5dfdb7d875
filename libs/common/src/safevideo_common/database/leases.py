"""Leases: one process at a time holds a name, as long as it renews the lease.

The database's clock decides, so the clocks of the processes may differ. A holder that was frozen may continue for a
moment after its lease has ended and another process has acquired it. So work under a lease must be safe to do twice,
or call `renew` in the transaction that writes, and roll back if it returns False.
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
    """Renew the lease if `holder` was its last holder. Return True if it was.

    Then no other process had the lease since, also if it had ended.
    """
    renewing = update(leases).where(_is_mine).values(expires_at=now_plus(seconds))
    return bool((await tx.execute(renewing, {"of": name, "by": holder})).rowcount)


async def release(tx: AsyncConnection, name: str, holder: str) -> None:
    """End the lease now if `holder` has it."""
    await tx.execute(update(leases).where(_is_mine).values(expires_at=now_plus()), {"of": name, "by": holder})
