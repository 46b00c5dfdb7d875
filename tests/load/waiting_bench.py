"""What looking for due events costs with 100,000 waiting, among so many rows that do not wait.

By itself, on the server of `DATABASE_URL`: `python tests/load/waiting_bench.py --rows 1000000`. It makes a database of
its own and drops it.
"""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

from million import MILLION
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import retries as inbox_retries
from safevideo_common.inbox.store.retries import QueueHead
from safevideo_testkit.databases import created, dropped

GROUP: Final = "kyc-worker"
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER: Final = NOW + timedelta(hours=1)
WAITING: Final = 100_000
HEADS: Final = 200
LOOKS: Final = 9
FILL: Final = text(
    "INSERT INTO event_inbox (consumer_group, event_id, event_type, performer_id, source_topic, source_partition,"
    " source_offset, last_offset, occurred_at, received_at, decided_at, status, next_try_at, payload)"
    " SELECT :group, CONCAT(:prefix, seq), 'kyc.verification.completed', CONCAT('sg_', seq % :performers), 't', 0, seq,"
    " seq, :at, :at, :at, :status, :next_try_at, IF(:status = 'waiting', REPEAT('x', 300), NULL)"
    f" FROM {MILLION} WHERE seq <= :rows"
)


class Shape(NamedTuple):
    """How 100,000 events wait: so many performers, each with a head that has this time, the others behind it."""

    name: str
    performers: int
    head_at: datetime | None


SHAPES: Final = (
    Shape("100,000 performers, none due", WAITING, LATER),
    Shape("100,000 performers, all due", WAITING, NOW),
    Shape("1,000 performers, none due", 1000, LATER),
    Shape("one performer, not due", 1, LATER),
    Shape("one performer, redriven", 1, None),
)


async def measure(url: str, rows: int) -> Table:
    """The median of a few looks, in ms."""
    table = Table("100,000 wait", "due ms", "untimed ms", title=f"among {rows:,} that do not wait")
    await migrate(url)
    async with Database.open(url, timeout=600) as database:
        await fill(database, "done-", Status.APPLIED, rows, 2000, None)
        for shape in SHAPES:
            async with database.transaction() as tx:
                await tx.execute(text("DELETE FROM event_inbox WHERE status = 'waiting'"))
            await fill(database, "head-", Status.WAITING, shape.performers, shape.performers, shape.head_at)
            await fill(database, "rest-", Status.WAITING, WAITING - shape.performers, shape.performers, None)
            table.add_row(shape.name, *[f"{await look(database, each):.1f}" for each in (due, untimed)])
    return table


async def fill(
    database: Database, prefix: str, status: Status, rows: int, performers: int, next_try_at: datetime | None
) -> None:
    """`rows` rows, dealt out to the performers."""
    values = {"group": GROUP, "prefix": prefix, "performers": performers, "rows": rows, "status": status}
    async with database.transaction() as tx:
        await tx.execute(FILL, values | {"at": NOW, "next_try_at": next_try_at})
        await tx.execute(text("ANALYZE TABLE event_inbox"))


async def look(database: Database, find: Callable[[AsyncConnection], Awaitable[list[QueueHead]]]) -> float:
    """The median of a few looks, in ms."""
    times = []
    async with database.read_connection() as reading:
        for _ in range(LOOKS):
            started = perf_counter()
            await find(reading)
            times.append(perf_counter() - started)
    return median(times) * 1000


async def due(reading: AsyncConnection) -> list[QueueHead]:
    """What each scan asks."""
    return await inbox_retries.due_heads(reading, GROUP, NOW, HEADS)


async def untimed(reading: AsyncConnection) -> list[QueueHead]:
    """What a scan asks for a share of its time at most."""
    return await inbox_retries.unscheduled_heads(reading, GROUP, HEADS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="at most a million")
    url = created(os.environ["DATABASE_URL"])
    try:
        Console().print(asyncio.run(measure(url, parser.parse_args().rows)))
    finally:
        dropped(url)


if __name__ == "__main__":
    main()
