"""How long it takes from the door's 2xx to the row in MariaDB, at a steady rate."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Final

import aiohttp
from measured import free_port, program, wait_until_listening
from payloads import SECRET, Keys, bodies, event_id, signature
from rich.table import Table
from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import open_database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import event_inbox
from safevideo_testkit.databases import created, dropped

PER_SECOND: Final = 200
WARM_UP_SECONDS: Final = 3
LOOK_SECONDS: Final = 0.002
"""Between two looks for new rows: what is measured is longer by half of it, and by the time of a look."""

MISSING_SECONDS: Final = 10.0
"""How long a transaction may take that has an id already."""

GIVE_UP_SECONDS: Final = 60.0

_c: Final = event_inbox.c
_NEW_ROWS: Final = (
    select(_c.id, _c.event_id)
    .where(or_(_c.id > bindparam("highest"), _c.id.in_(bindparam("missing", expanding=True))))
    .order_by(_c.id)
)


@dataclass(frozen=True)
class Latencies:
    """In milliseconds, from the 2xx to the row."""

    events: int
    p50: float
    p99: float
    longest: float


@dataclass
class _Watch:
    """When each event was taken by the door, and when its row was seen."""

    taken: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def latencies(self, ids: list[str]) -> Latencies:
        waits = [(self.seen[each] - self.taken[each]) * 1000 for each in ids]
        percentiles = quantiles(waits, n=100)
        return Latencies(len(waits), percentiles[49], percentiles[98], max(waits))


@dataclass
class _Ids:
    """Which rows were seen: a row may be seen before one with a smaller id, whose transaction takes longer."""

    highest: int = 0
    missing: dict[int, float] = field(default_factory=dict)
    """Smaller ids, and when they were found to be missing. That of a transaction which was rolled back never comes."""

    def saw(self, ids: list[int], now: float) -> None:
        """Rows that are new, by rising ids."""
        for row_id in ids:
            self.missing.pop(row_id, None)
            if row_id > self.highest:
                self.missing.update(dict.fromkeys(range(self.highest + 1, row_id), now))
                self.highest = row_id
        self.missing = {row_id: since for row_id, since in self.missing.items() if now - since < MISSING_SECONDS}


def latency_table(environment: Mapping[str, str], folder: Path, seconds: int) -> Table:
    """From the 2xx to the row, over `seconds`."""
    latencies = asyncio.run(measure_latency(environment, folder, seconds))
    table = Table("events", "p50 ms", "p99 ms", "longest ms", title=f"from 2xx to the row, {PER_SECOND} events/s")
    times = (latencies.p50, latencies.p99, latencies.longest)
    table.add_row(f"{latencies.events:,}", *(f"{each:.1f}" for each in times))
    return table


async def measure_latency(environment: Mapping[str, str], folder: Path, seconds: int) -> Latencies:
    """Send for so long after the warm-up, through a door and a worker of its own. Raises `TimeoutError`."""
    url = created(environment["DATABASE_URL"])
    try:
        await migrate(url)
        with ExitStack() as stack:
            variables = {**environment, "DATABASE_URL": url, "SHAREGRAM_WEBHOOK_SECRET": SECRET}
            variables["SPOOL_DIR"] = str(folder / "spool-latency")
            ports = [_start(name, variables, folder, stack) for name in ("webhook_ingest", "sync_worker")]
            async with asyncio.timeout(WARM_UP_SECONDS + seconds + GIVE_UP_SECONDS):
                return await _watched(f"http://127.0.0.1:{ports[0]}/webhooks/sharegram", url, seconds)
    finally:
        dropped(url)


def _start(name: str, environment: Mapping[str, str], folder: Path, stack: ExitStack) -> int:
    port = free_port()
    variables = {**environment, "HOST": "127.0.0.1", "PORT": str(port)}
    stack.enter_context(program((sys.executable, "-m", name), variables, folder / f"{name}.out"))
    wait_until_listening(port)
    return port


async def _watched(door: str, database_url: str, seconds: int) -> Latencies:
    warm_up = WARM_UP_SECONDS * PER_SECOND
    count = warm_up + seconds * PER_SECOND
    watch = _Watch()
    async with (
        aiohttp.ClientSession() as session,
        open_database(database_url, 1) as engine,
        engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(_look(connection, watch, count))
        await _send(session, door, watch, count, tasks)
    return watch.latencies([event_id(number) for number in range(warm_up, count)])


async def _send(session: aiohttp.ClientSession, door: str, watch: _Watch, count: int, tasks: asyncio.TaskGroup) -> None:
    """Each at its time, whatever has become of those before it."""
    began = perf_counter()
    for number, (_, body) in enumerate(bodies(range(count), Keys(1000))):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - perf_counter()))
        tasks.create_task(_post(session, door, watch, event_id(number), body))


async def _post(session: aiohttp.ClientSession, door: str, watch: _Watch, name: str, body: bytes) -> None:
    headers = {"X-Sharegram-Event-Id": name, "X-Sharegram-Signature": signature(body)}
    async with session.post(door, data=body, headers=headers) as response:
        watch.taken[name] = perf_counter()
        response.raise_for_status()


async def _look(connection: AsyncConnection, watch: _Watch, count: int) -> None:
    """Until all rows have been seen."""
    ids = _Ids()
    while len(watch.seen) < count:
        rows = (await connection.execute(_NEW_ROWS, {"highest": ids.highest, "missing": list(ids.missing)})).all()
        now = perf_counter()
        watch.seen.update((name, now) for _, name in rows)
        ids.saw([row_id for row_id, _ in rows], now)
        await asyncio.sleep(LOOK_SECONDS)
