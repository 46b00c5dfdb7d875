"""Idempotency keys of our writes at Sharegram, stored before they are sent.

A key belongs to the work ("verify KYC request 123"), not to the call. So a retry, a deferred job, and the process that
takes over after a kill all send the key that was stored first, and Sharegram does the work once.
"""

from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_hex
from typing import Final, Protocol

from sqlalchemy import delete, select

from safevideo_common.clock import Clock
from safevideo_common.database.dialect import Upsert
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import sharegram_idempotency_keys
from safevideo_common.sharegram.errors import IdempotencyKeyConflict
from safevideo_common.sharegram.operations import Operation

RETENTION: Final = timedelta(days=90)
"""No work is retried for so long. Sharegram itself forgets a key sooner."""
PRUNE_BATCH: Final = 1000
PRUNE_INTERVAL: Final = 100
"""Reservations of this process between two prunings."""
MAX_WORK: Final = 191

_c: Final = sharegram_idempotency_keys.c
_ADD: Final = Upsert(sharegram_idempotency_keys, ("work",), ("work",))


def work_of(operation: Operation, work: str) -> str:
    """Return the name under which the key of a call is stored."""
    return f"{operation.name}:{work}"


class IdempotencyKeys(Protocol):
    """The keys of all work."""

    async def reserve(self, work: str, content: bytes) -> str:
        """Return the key of `work`: a new one, durable before this returns, or the one that was stored first.

        Raises `IdempotencyKeyConflict` if it was stored for another `content`: a key never stands for two bodies.
        """
        ...


class StoredIdempotencyKeys:
    """Keys in the table `sharegram_idempotency_keys`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reserved = 0

    async def reserve(self, work: str, content: bytes) -> str:
        """See `IdempotencyKeys`. Raises `ValueError` for an empty or too long `work`, and `DatabaseUnavailable`."""
        if not 0 < len(work) <= MAX_WORK:
            raise ValueError(f"work must have 1 to {MAX_WORK} characters")
        digest = sha256(content).hexdigest()
        async with self._database.transaction() as tx:
            # Changes nothing if the work has a key already; then this transaction waits for the one that stores it.
            row = {"work": work, "idempotency_key": f"sv-{token_hex(16)}", "body_sha256": digest}
            await tx.execute(_ADD.statement(tx.dialect), [row | {"created_at": self._clock()}])
            stored = (await tx.execute(select(_c.idempotency_key, _c.body_sha256).where(_c.work == work))).one()
        self._reserved += 1
        if self._reserved % PRUNE_INTERVAL == 0:
            await self.prune()
        if stored.body_sha256 != digest:
            raise IdempotencyKeyConflict(f"the content of {work} changed after its idempotency key was stored")
        key: str = stored.idempotency_key
        return key

    async def reserved_at(self, operation: Operation, work: str) -> datetime | None:
        """Return when the key of a call was stored; None if the call was never sent. Raises `DatabaseUnavailable`."""
        async with self._database.read_connection() as reading:
            at: datetime | None = await reading.scalar(select(_c.created_at).where(_c.work == work_of(operation, work)))
        return at

    async def prune(self) -> int:
        """Delete keys past their retention, at most a batch; return their number."""
        async with self._database.transaction() as tx:
            old = select(_c.work).where(_c.created_at < self._clock() - RETENTION).limit(PRUNE_BATCH)
            works = list(await tx.scalars(old))
            if works:
                await tx.execute(delete(sharegram_idempotency_keys).where(_c.work.in_(works)))
        return len(works)
