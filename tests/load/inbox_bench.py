"""What an event costs `sync-worker` when the inbox is short, and when it is long."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from consumption import Figures, measure_consumer, publish_events
from payloads import Keys
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import open_database
from safevideo_common.database.migrate import migrate
from safevideo_testkit.databases import created, dropped

ROWS: Final = (10_000, 1_000_000)
FIRST_NUMBER: Final = 100_000_000
"""Of the events that are measured: none of them is in an inbox yet."""

ROWS_A_STATEMENT: Final = 100_000
_DIGIT: Final = " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10))
# Ids like those of the events (`payloads.event_id`); a month between the first and the millionth.
_MORE: Final = text(
    "INSERT INTO event_inbox (consumer_group, event_id, event_type, performer_id, source_topic, source_partition,"
    " source_offset, last_offset, occurred_at, received_at, decided_at, status, request_id)"
    " SELECT 'sync-worker', IF(n % 2, MD5(n), CONCAT('evt-', LPAD(n, 28, '0'))), 'performer.profile.updated',"
    " CONCAT('sg_', n % 20000), 'sharegram.performer.v1', n % 12, n, n, received, received, received, 'applied',"
    " CONCAT('request-', n)"
    " FROM (SELECT n, TIMESTAMP('2026-10-25') + INTERVAL n * 2600 * 1000 MICROSECOND AS received FROM (SELECT"
    " :held + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d AS n FROM"
    f" ({_DIGIT}) a, ({_DIGIT}) b, ({_DIGIT}) c, ({_DIGIT}) d, ({_DIGIT}) e) AS numbers"
    " WHERE n < :rows) AS events"
)


def inbox_table(environment: Mapping[str, str], folder: Path, events: int, rounds: int) -> Table:
    """What an event costs at each length of the inbox."""
    figures = asyncio.run(measure_inbox(environment, folder, events, rounds))
    short = next(iter(figures.values()))
    table = Table("rows", "events/s", "CPU µs/event", "time to the shortest", title="sync-worker by the inbox's length")
    for rows, each in figures.items():
        ratio = f"{short.per_second / each.per_second:.2f}"
        table.add_row(f"{rows:,}", f"{each.per_second:,.0f}", f"{each.cpu_micros:.0f}", ratio)
    return table


async def measure_inbox(environment: Mapping[str, str], folder: Path, events: int, rounds: int) -> dict[int, Figures]:
    """By rows in the inbox, the median of `rounds` rounds, in each of which both lengths have their turn."""
    measured: dict[int, list[Figures]] = {rows: [] for rows in ROWS}
    async with AsyncExitStack() as stack:
        urls = {rows: await _filled(environment["DATABASE_URL"], rows, stack) for rows in ROWS}
        number = FIRST_NUMBER
        for _ in range(rounds):
            for rows, url in urls.items():
                numbers = range(number, number := number + events)
                await publish_events(environment["KAFKA_BOOTSTRAP_SERVERS"], numbers, Keys(1000))
                variables = {**environment, "DATABASE_URL": url}
                measured[rows].append(await measure_consumer(("-m", "sync_worker"), variables, folder, events))
    return {rows: Figures.medians(figures) for rows, figures in measured.items()}


async def _filled(server: str, rows: int, stack: AsyncExitStack) -> str:
    url = created(server)
    stack.callback(dropped, url)
    await migrate(url)
    async with open_database(url, 1) as engine, engine.connect() as connection:
        await _fill(connection, rows)
    return url


async def _fill(connection: AsyncConnection, rows: int) -> None:
    for held in range(0, rows, ROWS_A_STATEMENT):
        await connection.execute(_MORE, {"held": held, "rows": rows})
        await connection.commit()
    # It has set aside more ids than it took, and by their ids the rows of the events are counted.
    await connection.execute(text(f"ALTER TABLE event_inbox AUTO_INCREMENT = {rows + 1}"))
