"""The outbox: what is to be published, written in the transaction that it tells of and deleted once it is published.

The rows about one performer are inserted while its state row is locked, so their ids rise in the order in which their
transactions commit. Across performers an id may become visible after a higher one; no reader may take the highest id
that it has seen for a mark below which there is nothing more. Hence rows are deleted one by one, never as a range.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import bindparam, case, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Headers, Message
from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT
from safevideo_common.database.dialect import Bulk
from safevideo_common.database.tables import outbox

MAX_COUNTED: Final = 100_000
"""InnoDB counts by reading: beyond this a backlog is only known to be large."""

_c: Final = outbox.c
_INSERT: Final = Bulk(insert(outbox), ("topic", "message_key", "headers", "payload", "created_at"))
_sized: Final = (
    select(_c.id, func.length(_c.payload).label("size")).order_by(_c.id).limit(bindparam("limit")).subquery("sized")
)
_total: Final = func.sum(_sized.c.size).over(order_by=_sized.c.id).label("total")
_summed: Final = select(_sized.c.id, _total).subquery("summed")
_fitting: Final = case((_summed.c.total <= bindparam("max_bytes"), _summed.c.id))
_LAST: Final = select(func.coalesce(func.max(_fitting), func.min(_summed.c.id)))
"""One row: to the driver, 500 sizes would cost as much as the messages."""
_OLDEST: Final = (
    select(_c.id, _c.topic, _c.message_key, _c.headers, _c.payload)
    .where(_c.id <= bindparam("last"))
    .order_by(_c.id)
    .limit(bindparam("limit"))
)
_DELETE: Final = delete(outbox).where(_c.id.in_(bindparam("ids", expanding=True)))
_COUNT: Final = select(func.count()).select_from(select(_c.id).limit(MAX_COUNTED).subquery())
_SINCE: Final = select(_c.created_at).order_by(_c.id).limit(1)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Headers).decode


class OutboxMessage(NamedTuple):
    """A message that waits, and the row that it waits in."""

    row_id: int
    message: Message


class OutboxDepth(NamedTuple):
    """How many rows wait, `MAX_COUNTED` standing for that many or more, and since when the oldest does."""

    rows: int
    since: datetime | None


async def record(tx: AsyncConnection, messages: Iterable[Message], now: datetime) -> None:
    """Add messages, in order, with one statement. To be called once the rows that they tell of are locked."""
    await _INSERT.execute(tx, [(topic, key, _encode(headers), value, now) for topic, key, value, headers in messages])


async def fetch_pending(reading: AsyncConnection, limit: int, max_bytes: int) -> list[OutboxMessage]:
    """The first rows by id, at most `limit`, and of values together at most `max_bytes` unless one alone has more."""
    last = await reading.scalar(_LAST, {"limit": limit, "max_bytes": max_bytes})
    if last is None:
        return []
    rows = (await reading.execute(_OLDEST, {"last": last, "limit": limit})).all()
    return [
        OutboxMessage(row_id, Message(topic, key, value, _decode(headers)))
        for row_id, topic, key, headers, value in rows
    ]


async def remove(tx: AsyncConnection, row_ids: Sequence[int]) -> None:
    """Delete rows; those that are gone already do no harm."""
    for start in range(0, len(row_ids), MAX_KEYS_PER_STATEMENT):
        await tx.execute(_DELETE, {"ids": row_ids[start : start + MAX_KEYS_PER_STATEMENT]})


async def depth(reading: AsyncConnection) -> OutboxDepth:
    """What waits now."""
    return OutboxDepth(await reading.scalar(_COUNT) or 0, await reading.scalar(_SINCE))
