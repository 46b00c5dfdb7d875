"""SQL of the outbox: messages are written with their cause, and deleted after they are published.

The rows of one performer are inserted while its state row is locked, so their ids rise in the order of the commits.
Across performers an id may become visible after a higher one. So a reader must not assume that lower ids are gone, and
rows are deleted by id, never as a range.

A row whose partition takes no writes has that partition in `blocked_partition`, and later rows of the partition get it
too. So the oldest rows without it are those that can be published now. A row is never unblocked: it is published and
deleted from where it is. Otherwise a relay that read before and one that reads after could swap two rows of a key.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, bindparam, case, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Headers, Message
from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT
from safevideo_common.database.dialect import Bulk
from safevideo_common.database.tables import outbox

MAX_COUNTED: Final = 100_000
"""InnoDB counts by reading the rows, so a larger outbox is counted as this number."""

_c: Final = outbox.c
_INSERT: Final = Bulk(insert(outbox), ("topic", "message_key", "headers", "payload", "created_at"))
_is_blocked: Final = _c.blocked_partition.is_not(None)
_other: Final = outbox.alias("any_row")
_has_blocked: Final = exists(select(_other.c.id).where(_other.c.blocked_partition.is_not(None)))
_PARTITIONS: Final = select(_c.blocked_partition).where(_is_blocked).distinct()
_BLOCK: Final = (
    update(outbox).where(_c.id.in_(bindparam("ids", expanding=True))).values(blocked_partition=bindparam("partition"))
)
_DELETE: Final = delete(outbox).where(_c.id.in_(bindparam("ids", expanding=True)))
_COUNT: Final = select(func.count()).select_from(select(_c.id).limit(MAX_COUNTED).subquery())
_SINCE: Final = select(_c.created_at).order_by(_c.id).limit(1)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Headers).decode


class _Oldest:
    """The oldest rows that match a condition, bounded by number and bytes."""

    def __init__(self, condition: ColumnElement[bool]) -> None:
        size = (func.length(_c.headers) + func.length(_c.payload)).label("size")
        sized = select(_c.id, size).where(condition).order_by(_c.id).limit(bindparam("limit")).subquery("sized")
        total = func.sum(sized.c.size).over(order_by=sized.c.id).label("total")
        summed = select(sized.c.id, total).subquery("summed")
        fitting = case((summed.c.total <= bindparam("max_bytes"), summed.c.id))
        # The id of the last row that fits. One row: 500 sizes would cost the driver as much as the messages.
        self._last = select(func.coalesce(func.max(fitting), func.min(summed.c.id)))
        self._rows = (
            select(_c.id, _c.topic, _c.message_key, _c.headers, _c.payload, _has_blocked)
            .where(condition, _c.id <= bindparam("last"))
            .order_by(_c.id)
            .limit(bindparam("limit"))
        )

    async def fetch(
        self, reading: AsyncConnection, limit: int, max_bytes: int, **parameters: str
    ) -> tuple[list["OutboxMessage"], bool]:
        """Return the rows, and whether there was a blocked row when they were read."""
        last = await reading.scalar(self._last, {"limit": limit, "max_bytes": max_bytes, **parameters})
        if last is None:
            return [], False
        rows = (await reading.execute(self._rows, {"last": last, "limit": limit, **parameters})).all()
        messages = [
            OutboxMessage(row_id, Message(topic, key, value, _decode(headers)))
            for row_id, topic, key, headers, value, _ in rows
        ]
        return messages, any(has_blocked for *_, has_blocked in rows[:1])


_PENDING: Final = _Oldest(_c.blocked_partition.is_(None))
_BLOCKED: Final = _Oldest(_c.blocked_partition == bindparam("partition"))


class OutboxMessage(NamedTuple):
    """A pending message and the id of its row."""

    row_id: int
    message: Message


class PendingBatch(NamedTuple):
    """The oldest messages that are not blocked, and the partitions that blocked messages wait for."""

    messages: Sequence[OutboxMessage]
    blocked: Set[str]


class OutboxDepth(NamedTuple):
    """The number of rows, at most `MAX_COUNTED`, and the time of the oldest one."""

    rows: int
    oldest_at: datetime | None


async def record(tx: AsyncConnection, messages: Iterable[Message], now: datetime) -> None:
    """Insert messages, in order, in one statement. Lock the rows that they are about before."""
    await _INSERT.execute(tx, [(topic, key, _encode(headers), value, now) for topic, key, value, headers in messages])


async def fetch_pending(reading: AsyncConnection, limit: int, max_bytes: int) -> PendingBatch:
    """Return the first rows by id that are not blocked: at most `limit` and `max_bytes`, but at least one row.

    Bytes are those of values and headers. The partitions are read after the rows: an earlier row of the same key that
    is missing among the messages is either published or has its partition in `blocked`.
    """
    messages, has_blocked = await _PENDING.fetch(reading, limit, max_bytes)
    return PendingBatch(messages, await blocked_partitions(reading) if has_blocked else frozenset())


async def fetch_blocked(
    reading: AsyncConnection, partition: str, limit: int, max_bytes: int
) -> Sequence[OutboxMessage]:
    """Return the first rows that wait for `partition`, bounded in the same way."""
    messages, _ = await _BLOCKED.fetch(reading, limit, max_bytes, partition=partition)
    return messages


async def blocked_partitions(reading: AsyncConnection) -> Set[str]:
    """Return the partitions that messages wait for."""
    return frozenset((await reading.execute(_PARTITIONS)).scalars())


async def block(tx: AsyncConnection, row_ids: Sequence[int], partition: str) -> None:
    """Let rows wait for `partition`. Rows that are deleted already are ignored."""
    for start in range(0, len(row_ids), MAX_KEYS_PER_STATEMENT):
        await tx.execute(_BLOCK, {"ids": row_ids[start : start + MAX_KEYS_PER_STATEMENT], "partition": partition})


async def remove(tx: AsyncConnection, row_ids: Sequence[int]) -> None:
    """Delete rows. Rows that are deleted already are ignored."""
    for start in range(0, len(row_ids), MAX_KEYS_PER_STATEMENT):
        await tx.execute(_DELETE, {"ids": row_ids[start : start + MAX_KEYS_PER_STATEMENT]})


async def discard(
    tx: AsyncConnection, keys: Collection[bytes], is_retained: Callable[[Mapping[str, bytes]], bool]
) -> int:
    """Delete the messages with one of these keys that are not published yet, but for those with retained headers.

    Return how many. It reads the whole outbox: it is for the erasure of a person.
    """
    rows = (await tx.execute(select(_c.id, _c.headers).where(_c.message_key.in_(keys)))).all() if keys else []
    discarded = [row.id for row in rows if not is_retained(dict(_decode(row.headers)))]
    await remove(tx, discarded)
    return len(discarded)


async def depth(reading: AsyncConnection) -> OutboxDepth:
    """Measure the outbox."""
    return OutboxDepth(await reading.scalar(_COUNT) or 0, await reading.scalar(_SINCE))
