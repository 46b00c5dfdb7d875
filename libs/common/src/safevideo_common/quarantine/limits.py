"""Size limits of the quarantine, fair to senders with few webhooks.

Over a limit, released webhooks are deleted first, since the broker has them. Then the address with the most gives its
oldest ones until the next address has as many, and so on. A flooding sender evicts only its own webhooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import rejected_webhooks

ADDRESSES_PER_STEP: Final = 50
ROWS_PER_STEP: Final = 500
SLACK_DIVISOR: Final = 20

_c: Final = rejected_webhooks.c
_ONE: Final[ColumnElement[int]] = literal_column("1")
_OLDEST_FIRST: Final = (_c.received_at, _c.id)


class QuarantineUsage(NamedTuple):
    """An amount of webhooks. Bytes are those of the bodies as sent; encrypted bodies take a third more."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """The largest amount and the highest age of stored webhooks."""

    rows: int = 10_000
    bytes: int = 256 << 20
    age: timedelta = timedelta(days=7)

    def excess(self, usage: QuarantineUsage) -> QuarantineUsage:
        """Return how much to delete: over a limit a twentieth more, so that not every write has to evict."""
        return QuarantineUsage(_excess(usage.rows, self.rows), _excess(usage.bytes, self.bytes))


def _excess(used: int, limit: int) -> int:
    return used - limit + limit // SLACK_DIVISOR if used > limit else 0


class TrimResult(NamedTuple):
    """The usage after a trim, and the numbers of rows that it deleted."""

    usage: QuarantineUsage
    expired: int
    evicted: int


async def trim_to(tx: AsyncConnection, limits: RetentionLimits, now: datetime) -> TrimResult:
    """Delete what is over the limits. In one transaction with `add`, the limits hold at each commit of one writer.

    Several writers together may exceed them by what each is adding, until the next of them trims.
    """
    expired = (await tx.execute(delete(rejected_webhooks).where(_c.received_at < now - limits.age))).rowcount
    usage, evicted = await _usage(tx), 0
    while any(excess := limits.excess(usage)):
        evicted += await _evict_released(tx, excess) or await _evict_from_heaviest(tx, excess)
        usage = await _usage(tx)
    return TrimResult(usage, expired, evicted)


def fair_share_cuts(weights: Sequence[tuple[str, int]], excess: int) -> dict[str, int]:
    """Return how much each address must give, in all `excess`. `weights` begins with the heaviest.

    The heaviest addresses come down to one level, and an address below it gives nothing. The first ones give the
    remainder of a division.
    """
    left, cuts = excess, [0] * len(weights)
    for count, (_, weight) in enumerate(weights, start=1):
        following = weights[count][1] if count < len(weights) else 0
        each, remainder = divmod(min(left, (weight - following) * count), count)
        cuts[:count] = [cut + each + (index < remainder) for index, cut in enumerate(cuts[:count])]
        left -= each * count + remainder
        if not left:
            break
    return {address: cut for (address, _), cut in zip(weights, cuts, strict=True) if cut}


async def _usage(tx: AsyncConnection) -> QuarantineUsage:
    rows, size = (await tx.execute(select(func.count(), func.sum(_c.body_bytes)).select_from(rejected_webhooks))).one()
    return QuarantineUsage(rows, int(size or 0))


async def _evict_released(tx: AsyncConnection, excess: QuarantineUsage) -> int:
    rows = (
        await tx.execute(
            select(_c.id, _c.body_bytes)
            .where(_c.released_at.is_not(None))
            .order_by(*_OLDEST_FIRST)
            .limit(ROWS_PER_STEP)
        )
    ).all()
    count = max(excess.rows, _rows_for([row.body_bytes for row in rows], excess.bytes))
    return await _delete(tx, [row.id for row in rows[:count]])


async def _evict_from_heaviest(tx: AsyncConnection, excess: QuarantineUsage) -> int:
    """Run one step. Too many rows are weighed by rows, too many bytes by bytes."""
    weight: ColumnElement[int] = _ONE if excess.rows else _c.body_bytes
    total = func.sum(weight)
    heaviest = await tx.execute(
        select(_c.remote, total)
        .group_by(_c.remote)
        .order_by(total.desc(), func.min(_c.received_at))
        .limit(ADDRESSES_PER_STEP)
    )
    weights = [(remote, int(size)) for remote, size in heaviest]
    evicted = 0
    for remote, amount in fair_share_cuts(weights, excess.rows or excess.bytes).items():
        evicted += await _evict_oldest(tx, remote, weight, amount)
    return evicted


async def _evict_oldest(tx: AsyncConnection, remote: str, weight: ColumnElement[int], amount: int) -> int:
    query = select(_c.id, weight).where(_c.remote == remote).order_by(*_OLDEST_FIRST).limit(ROWS_PER_STEP)
    rows = (await tx.execute(query)).all()
    return await _delete(tx, [row_id for row_id, _ in rows[: _rows_for([size for _, size in rows], amount)]])


def _rows_for(sizes: Sequence[int], amount: int) -> int:
    """Return how many of `sizes`, from the first one, have at least `amount` together."""
    return sum(before < amount for before in accumulate(sizes[:-1], initial=0)) if sizes else 0


async def _delete(tx: AsyncConnection, row_ids: Sequence[int]) -> int:
    if row_ids:
        await tx.execute(delete(rejected_webhooks).where(_c.id.in_(row_ids)))
    return len(row_ids)
