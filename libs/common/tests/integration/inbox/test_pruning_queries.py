"""The SQL of the pruner: deleted rows and the size of the inbox."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy import select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.retention import PagePosition, PrunedRows, inbox_size, prune_chunk
from safevideo_common.inbox.store.rows import InboxEntry

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEGINNING = PagePosition(datetime(1970, 1, 1, tzinfo=UTC), 0)
_numbers = count()


def event(status: Status, days: float, *, group: str = "sync-worker") -> InboxEntry:
    number, at = next(_numbers), NOW - timedelta(days=days)
    name = f"{status}-{days:g}-{number}"
    return InboxEntry(group, name, "mark", "sg_1", "marks", 0, number, at, at, at, status)


async def fill(database: Database, *entries: InboxEntry) -> None:
    async with database.transaction() as tx:
        await inbox_rows.insert_rows(tx, entries)


async def swept(database: Database, after: PagePosition = BEGINNING, rows: int = 100) -> PrunedRows:
    async with database.transaction() as tx:
        before, dead_before = NOW - timedelta(days=31), NOW - timedelta(days=90)
        return await prune_chunk(tx, after, before=before, dead_before=dead_before, rows=rows)


async def left(database: Database) -> Sequence[str]:
    async with database.read_connection() as reading:
        names = await reading.scalars(select(event_inbox.c.event_id).order_by(event_inbox.c.id))
        return [name.rpartition("-")[0] for name in names]


async def test_prune_chunk_keeps_waiting_and_recent_dead_rows(database: Database) -> None:
    settled, dead, waiting = (Status.APPLIED, Status.STALE, Status.IGNORED), Status.DEAD, Status.WAITING
    await fill(database, *(event(status, days) for status in (*settled, dead, waiting) for days in (30, 32, 91)))
    assert await swept(database) == PrunedRows(7, None)
    assert await left(database) == [
        "applied-30", "stale-30", "ignored-30", "dead-30", "dead-32", "waiting-30", "waiting-32", "waiting-91"
    ]  # fmt: skip


async def test_prune_chunk_continues_after_the_last_position(database: Database) -> None:
    old = [event(status, 40) for status in (Status.WAITING, Status.APPLIED, Status.WAITING, Status.STALE)]
    await fill(database, *old, event(Status.APPLIED, 35))  # four of one moment
    first = await swept(database, rows=2)
    assert first.position is not None
    second = await swept(database, first.position, rows=2)
    assert second.position is not None
    assert (first.deleted, second.deleted) == (1, 1)
    assert await swept(database, second.position, rows=2) == PrunedRows(1, None)
    assert await left(database) == ["waiting-40", "waiting-40"]


async def test_inbox_size_counts_the_table_and_the_group(database: Database) -> None:
    await fill(
        database,
        event(Status.APPLIED, 1),
        event(Status.WAITING, 2),
        event(Status.WAITING, 1),
        event(Status.DEAD, 3),
        event(Status.WAITING, 9, group="kyc-worker"),
    )
    async with database.read_connection() as reading:
        size = await inbox_size(reading, "sync-worker")
        nothing = await inbox_size(reading, "another")
    assert 0 < size.rows < 20  # an estimate
    assert (size.waiting, size.dead, size.oldest_waiting) == (2, 1, NOW - timedelta(days=2))
    assert (nothing.waiting, nothing.dead, nothing.oldest_waiting) == (0, 0, None)
