"""The rows that stand for persons: whoever has locked them is alone with these persons until the transaction ends.

The order of all locks on a person, in every transaction:

1. `person_locks`: a bucket for each Sharegram id, first e-mail or other name, in ascending order.
2. `users`: the root of each tree of merged accounts, in the order of ids.
3. Everything else: requests, documents, performers, holds, orders.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.dialect import Upsert
from safevideo_common.database.tables import person_locks
from safevideo_common.domain.users import ascii_lower

BUCKETS: Final = 1024
"""Two persons in one bucket wait for each other for no other reason. A transaction takes milliseconds."""

_LOCK: Final = Upsert(person_locks, ("bucket",), ("bucket",))


@dataclass(frozen=True, slots=True)
class PersonLock:
    """The proof that names of a person are locked. Functions that write on a person ask for it."""

    tx: AsyncConnection
    """The transaction that has the lock, and writes."""


async def lock_names(tx: AsyncConnection, names: Iterable[str]) -> PersonLock:
    """Lock names, such as `performer:sg_1`, until the transaction ends. A name needs no row anywhere."""
    for bucket in sorted({crc32(name.encode(errors="surrogatepass")) % BUCKETS for name in names}):
        # An insert that finds its row locks it. So the row needs no other transaction to make it.
        await tx.execute(_LOCK.statement(tx.dialect).values(bucket=bucket))
    return PersonLock(tx)


async def lock_performer(tx: AsyncConnection, sharegram_id: str) -> PersonLock:
    """Lock a performer: for acts on KYC requests and documents, which belong to this one name of a person."""
    return await lock_names(tx, [performer_name(sharegram_id)])


def email_name(email: str) -> str:
    """Return the name under which an e-mail is locked: whoever has it may have no account yet."""
    return f"email:{ascii_lower(email)}"


def performer_name(sharegram_id: str) -> str:
    """Return the name under which a performer is locked."""
    return f"performer:{sharegram_id}"
