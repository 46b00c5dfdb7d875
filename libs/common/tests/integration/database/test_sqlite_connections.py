"""No thread of a connection outlives its engine: it would report to an event loop that is closed by then."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from safevideo_common.database.dialect.sqlite import sqlite_connections
from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable


def counting(numbers: int) -> str:
    """Work in which SQLite hears of nothing: half a second and more for five million numbers."""
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {numbers}) SELECT COUNT(*) FROM n"


@pytest.fixture(autouse=True)
def _all_threads_end() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if "connection_worker" in name}


async def test_no_thread_remains_after_a_failed_open() -> None:
    async with Database.open("sqlite+aiosqlite:////nowhere/at/all.db") as database:
        with pytest.raises(DatabaseUnavailable):
            await database.probe()


async def test_no_thread_remains_after_a_statement_timeout(fresh_sqlite_url: str) -> None:
    async with Database.open(fresh_sqlite_url, timeout=0.2) as database:
        with pytest.raises(DatabaseUnavailable, match="in time"):
            async with database.read_connection() as reading:
                await reading.execute(text(counting(5_000_000)))


@pytest.mark.parametrize("steps", [0, 1, 10, 100, 1000])
async def test_no_thread_remains_after_a_cancelled_task(fresh_sqlite_url: str, steps: int) -> None:
    async with Database.open(fresh_sqlite_url) as database:
        probe = asyncio.create_task(database.probe())
        for _ in range(steps):
            await asyncio.sleep(0)
        probe.cancel()
        await asyncio.wait([probe])


async def test_no_thread_remains_after_its_engine_is_disposed_during_a_statement(fresh_sqlite_url: str) -> None:
    path = fresh_sqlite_url.removeprefix("sqlite+aiosqlite:///")
    async with sqlite_connections() as connections:
        connection = await connections.connect(path)
        asking = asyncio.create_task(connection.execute_fetchall(counting(300_000)))
        await asyncio.sleep(0)
    assert [*await asking] == [(300_000,)]


async def test_first_connections_to_a_new_file_all_succeed(tmp_path: Path) -> None:
    async with sqlite_connections() as connections:
        for number in range(20):
            await asyncio.gather(*(connections.connect(f"{tmp_path}/{number}.db") for _ in range(8)))
