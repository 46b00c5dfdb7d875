"""What keeps the quarantine small, and fair to those who send little.

Over a bound, what was released goes first, for the log has it. Then the address that has the most gives its oldest,
until the next one has as much, and so on: who floods pushes out nobody but himself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.tables import rejected_webhooks

ADDRESSES_PER_STEP: Final = 50
ROWS_PER_STEP: Final = 500
SLACK_PART: Final = 20

_c: Final = rejected_webhooks.c
_ONE: Final[ColumnElement[int]] = literal_column("1")
_OLDEST_FIRST: Final = (_c.received_at, _c.id)


class QuarantineUsage(NamedTuple):
    """How much there is. Bytes are those of the bodies as sent; encrypted they take a third more."""

    rows: int
    bytes: int

    def is_something(self) -> bool:
        """Whether either is above zero."""
        return self.rows > 0 or self.bytes > 0


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How much may be kept, and for how long."""

    rows: int = 10_000
    bytes: int = 256 << 20
    age: timedelta = timedelta(days=7)

    def exceeded_by(self, held: QuarantineUsage) -> QuarantineUsage:
        """What has to go: nothing up to the bound; over it a twentieth more, so that not every write has to evict."""
        return QuarantineUsage(_over(held.rows, self.rows), _over(held.bytes, self.bytes))


def _over(held: int, bound: int) -> int:
    return held - bound + bound // SLACK_PART if held > bound else 0


class TrimResult(NamedTuple):
    """What is left, and how many rows had to go."""

    held: QuarantineUsage
    expired: int
    evicted: int


async def trim_to(tx: AsyncConnection, bounds: RetentionLimits, now: datetime) -> TrimResult:
    """Delete what is too old or too much. With `add` in one transaction, the bounds hold at every commit of one writer.

    Several writers may be over by what each is just adding, until the next of them comes by.
    """
    expired = (await tx.execute(delete(rejected_webhooks).where(_c.received_at < now - bounds.age))).rowcount
    held, evicted = await _held(tx), 0
    while (excess := bounds.exceeded_by(held)).is_something():
        evicted += await _evict_released(tx, excess) or await _evict_from_heaviest(tx, excess)
        held = await _held(tx)
    return TrimResult(held, expired, evicted)


def fair_share_cuts(shares: Sequence[tuple[str, int]], excess: int) -> dict[str, int]:
    """What each address must give so that together they give `excess`; `shares` begins with the heaviest.

    The heaviest come down to one level, and nobody below it gives anything. What cannot be divided the first ones give.
    """
    left, given = excess, [0] * len(shares)
    for place, (_, weight) in enumerate(shares, start=1):
        following = shares[place][1] if place < len(shares) else 0
        each, further = divmod(min(left, (weight - following) * place), place)
        given[:place] = [gave + each + (giver < further) for giver, gave in enumerate(given[:place])]
        left -= each * place + further
        if not left:
            break
    return {address: amount for (address, _), amount in zip(shares, given, strict=True) if amount}


async def _held(tx: AsyncConnection) -> QuarantineUsage:
    rows, size = (await tx.execute(select(func.count(), func.sum(_c.body_bytes)).select_from(rejected_webhooks))).one()
    return QuarantineUsage(rows, int(size or 0))


async def _evict_released(tx: AsyncConnection, excess: QuarantineUsage) -> int:
    rows = await tx.execute(
        select(_c.id, _c.body_bytes).where(_c.released_at.is_not(None)).order_by(*_OLDEST_FIRST).limit(ROWS_PER_STEP)
    )
    going: list[int] = []
    size = 0
    for row in rows:
        if len(going) >= excess.rows and size >= excess.bytes:
            break
        going.append(row.id)
        size += row.body_bytes
    return await _delete(tx, going)


async def _evict_from_heaviest(tx: AsyncConnection, excess: QuarantineUsage) -> int:
    """One step: too many rows are counted by rows, too many bytes by bytes."""
    weight: ColumnElement[int] = _ONE if excess.rows else _c.body_bytes
    total = func.sum(weight)
    heaviest = await tx.execute(
        select(_c.remote, total)
        .group_by(_c.remote)
        .order_by(total.desc(), func.min(_c.received_at))
        .limit(ADDRESSES_PER_STEP)
    )
    shares = [(remote, int(size)) for remote, size in heaviest]
    evicted = 0
    for remote, amount in fair_share_cuts(shares, excess.rows or excess.bytes).items():
        evicted += await _evict_oldest(tx, remote, weight, amount)
    return evicted


async def _evict_oldest(tx: AsyncConnection, remote: str, weight: ColumnElement[int], amount: int) -> int:
    rows = await tx.execute(
        select(_c.id, weight).where(_c.remote == remote).order_by(*_OLDEST_FIRST).limit(ROWS_PER_STEP)
    )
    return await _delete(tx, list(_until(((row_id, size) for row_id, size in rows), amount)))


def _until(rows: Iterable[tuple[int, int]], amount: int) -> Iterable[int]:
    taken = 0
    for row_id, size in rows:
        if taken >= amount:
            return
        taken += size
        yield row_id


async def _delete(tx: AsyncConnection, row_ids: Sequence[int]) -> int:
    if row_ids:
        await tx.execute(delete(rejected_webhooks).where(_c.id.in_(row_ids)))
    return len(row_ids)
