"""SQL of the outbox: messages are written with their cause, and deleted after they are published.

The rows of one performer are inserted while its state row is locked, so their ids rise in the order of the commits.
Across performers an id may become visible after a higher one. So a reader must not assume that lower ids are gone, and
rows are deleted by id, never as a range.
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
"""InnoDB counts by reading the rows, so a larger outbox is counted as this number."""

_c: Final = outbox.c
_INSERT: Final = Bulk(insert(outbox), ("topic", "message_key", "headers", "payload", "created_at"))
_sized: Final = (
    select(_c.id, func.length(_c.payload).label("size")).order_by(_c.id).limit(bindparam("limit")).subquery("sized")
)
_total: Final = func.sum(_sized.c.size).over(order_by=_sized.c.id).label("total")
_summed: Final = select(_sized.c.id, _total).subquery("summed")
_fitting: Final = case((_summed.c.total <= bindparam("max_bytes"), _summed.c.id))
_LAST: Final = select(func.coalesce(func.max(_fitting), func.min(_summed.c.id)))
"""The id of the last row that fits. One row: 500 sizes would cost the driver as much as the messages."""
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
    """A pending message and the id of its row."""

    row_id: int
    message: Message


class OutboxDepth(NamedTuple):
    """The number of rows, at most `MAX_COUNTED`, and the time of the oldest one."""

    rows: int
    oldest_at: datetime | None


async def record(tx: AsyncConnection, messages: Iterable[Message], now: datetime) -> None:
    """Insert messages, in order, in one statement. Lock the rows that they are about before."""
    await _INSERT.execute(tx, [(topic, key, _encode(headers), value, now) for topic, key, value, headers in messages])


async def fetch_pending(reading: AsyncConnection, limit: int, max_bytes: int) -> list[OutboxMessage]:
    """Return the first rows by id: at most `limit`, and at most `max_bytes` of values, but at least one row."""
    last = await reading.scalar(_LAST, {"limit": limit, "max_bytes": max_bytes})
    if last is None:
        return []
    rows = (await reading.execute(_OLDEST, {"last": last, "limit": limit})).all()
    return [
        OutboxMessage(row_id, Message(topic, key, value, _decode(headers)))
        for row_id, topic, key, headers, value in rows
    ]


async def remove(tx: AsyncConnection, row_ids: Sequence[int]) -> None:
    """Delete rows. Rows that are deleted already are ignored."""
    for start in range(0, len(row_ids), MAX_KEYS_PER_STATEMENT):
        await tx.execute(_DELETE, {"ids": row_ids[start : start + MAX_KEYS_PER_STATEMENT]})


async def depth(reading: AsyncConnection) -> OutboxDepth:
    """Measure the outbox."""
    return OutboxDepth(await reading.scalar(_COUNT) or 0, await reading.scalar(_SINCE))
