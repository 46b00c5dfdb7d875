"""The SQL of the outbox, on both database engines."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from safevideo_common.broker.types import Message
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.domain.performers import Performer
from safevideo_common.outbox import store as outbox_store
from safevideo_common.outbox.store import OutboxDepth

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
PLENTY = 1 << 30


def message(value: str | bytes, key: str = "sg_1") -> Message:
    return Message("events", key.encode(), value.encode() if isinstance(value, str) else value, (("ce_id", b"1"),))


async def record(database: Database, *messages: Message, now: datetime = NOW) -> None:
    async with database.transaction() as tx:
        await outbox_store.record(tx, messages, now)


async def waiting(database: Database, limit: int = 1000, max_bytes: int = PLENTY) -> Sequence[bytes]:
    async with database.read_connection() as reading:
        return [each.message.value for each in (await outbox_store.fetch_pending(reading, limit, max_bytes)).messages]


async def test_fetch_pending_returns_the_recorded_message(database: Database) -> None:
    odd = Message("events", b"\xff\x00key", b"\x00\xff ' \\ % not UTF-8", (("a", b"\x00"), ("a", b""), ("é", b"'")))
    await record(database, odd, Message("other", b"", b""))
    async with database.read_connection() as reading:
        found = await outbox_store.fetch_pending(reading, 10, PLENTY)
    assert [each.message for each in found.messages] == [odd, Message("other", b"", b"")]


async def test_fetch_pending_returns_the_oldest_rows_up_to_the_limit(database: Database) -> None:
    await record(database, *(message(str(number)) for number in range(20)))
    assert await waiting(database, limit=7) == [str(number).encode() for number in range(7)]


async def test_fetch_pending_limits_bytes_but_returns_one_message(database: Database) -> None:
    await record(database, *(message(b"x" * 1000) for _ in range(5)))
    assert len(await waiting(database, max_bytes=2500)) == 2
    assert len(await waiting(database, max_bytes=10)) == 1


async def test_fetch_pending_limits_bytes_of_headers_too(database: Database) -> None:
    await record(database, *(Message("events", b"key", b"", (("h", b"x" * 1000),)) for _ in range(5)))
    assert len(await waiting(database, max_bytes=2500)) == 2


async def test_blocked_rows_are_fetched_by_partition_and_not_as_pending(database: Database) -> None:
    await record(database, *(message(str(number)) for number in range(6)))
    async with database.read_connection() as reading:
        ids = [each.row_id for each in (await outbox_store.fetch_pending(reading, 6, PLENTY)).messages]
    async with database.transaction() as tx:
        await outbox_store.block(tx, ids[0:4:2], "events/3")
        await outbox_store.block(tx, ids[1:2], "events/4")
    async with database.read_connection() as reading:
        pending = await outbox_store.fetch_pending(reading, 6, PLENTY)
        blocked = await outbox_store.fetch_blocked(reading, "events/3", 6, PLENTY)
    assert [each.message.value for each in pending.messages] == [b"3", b"4", b"5"]
    assert pending.blocked == {"events/3", "events/4"}
    assert [each.message.value for each in blocked] == [b"0", b"2"]


async def test_outbox_keeps_the_largest_message(database: Database) -> None:
    value = bytes(range(256)) * 4096
    await record(database, Message("events", b"k" * (1 << 15), value, (("h", b"x" * 100_000),)))
    assert await waiting(database) == [value]


async def test_remove_deletes_rows_and_can_be_repeated(database: Database) -> None:
    await record(database, *(message(str(number)) for number in range(1200)))
    async with database.read_connection() as reading:
        ids = [each.row_id for each in (await outbox_store.fetch_pending(reading, 1100, PLENTY)).messages]
    for _ in range(2):
        async with database.transaction() as tx:
            await outbox_store.remove(tx, ids)
    assert await waiting(database) == [str(number).encode() for number in range(1100, 1200)]


async def test_depth_counts_rows_and_finds_the_oldest(database: Database) -> None:
    async with database.read_connection() as reading:
        assert await outbox_store.depth(reading) == OutboxDepth(0, None)
    await record(database, message("a"))
    await record(database, message("b"), now=NOW + timedelta(seconds=5))
    async with database.read_connection() as reading:
        assert await outbox_store.depth(reading) == OutboxDepth(2, NOW)


async def test_rolled_back_transaction_leaves_no_message(database: Database) -> None:
    try:
        async with database.transaction() as tx:
            await outbox_store.record(tx, [message("a")], NOW)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert await waiting(database) == []


async def test_ids_rise_in_commit_order_under_a_row_lock(database: Database) -> None:
    async with database.transaction() as tx:
        await performers.insert_new(tx, [Performer("sg_1")], NOW)
    committed: list[bytes] = []

    async def publish(number: int) -> None:
        async with database.transaction() as tx:
            await performers.load_for_update(tx, ["sg_1"])
            await outbox_store.record(tx, [message(str(number))], NOW)
            committed.append(str(number).encode())  # nobody else has the lock before this one has committed

    await asyncio.gather(*(publish(number) for number in range(12)))
    assert await waiting(database) == committed
