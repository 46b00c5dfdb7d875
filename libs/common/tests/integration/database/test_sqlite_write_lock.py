"""Several services in one process, each with an engine of its own on one SQLite file (the embedded run)."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from safevideo_common.database import performers
from safevideo_common.database.dialect.sqlite import RollbackOnClose
from safevideo_common.database.engine import Database
from safevideo_common.domain.performers import Performer
from safevideo_common.errors import DatabaseConflict, DatabaseUnavailable
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
async def services(migrated_sqlite_url: str) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(Database.open(migrated_sqlite_url, timeout=DEADLINE_SECONDS))
            for _ in range(4)
        ]


async def write(database: Database, name: str) -> None:
    async with database.transaction() as tx:
        await performers.load_for_update(tx, [name])
        await performers.insert_new(tx, [Performer(name)], NOW)


async def test_sqlite_file_is_durable_and_readable_during_a_write(services: list[Database]) -> None:
    async with services[0].read_connection() as reading:
        settings = {
            name: await reading.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


async def test_write_lock_lets_all_writers_commit_without_a_conflict(services: list[Database]) -> None:
    names = [[f"sg_{service}_{number}" for number in range(50)] for service in range(4)]
    await asyncio.gather(*(write(services[index], name) for index in range(4) for name in names[index]))
    async with services[0].read_connection() as reading:
        assert await reading.scalar(text("SELECT COUNT(*) FROM performers")) == 200


async def test_write_lock_is_fair_to_slow_writers(services: list[Database]) -> None:
    busy, *others = services
    turns = 0

    async def without_pause() -> None:
        nonlocal turns
        while True:
            await write(busy, f"sg_busy_{turns}")
            turns += 1

    hog = asyncio.create_task(without_pause())
    for number in range(20):
        before = turns
        await asyncio.gather(*(write(other, f"sg_{number}_{index}") for index, other in enumerate(others)))
        assert turns - before <= 5, "others had to wait for several turns of the busy one"
    hog.cancel()
    await asyncio.gather(hog, return_exceptions=True)


async def test_reader_does_not_wait_for_a_writer(services: list[Database]) -> None:
    async with services[0].transaction() as tx:
        await performers.insert_new(tx, [Performer("sg_1")], NOW)
        async with services[1].read_connection() as reading:
            assert await performers.id_of(reading, "sg_1") is None
    async with services[1].read_connection() as reading:
        assert await performers.id_of(reading, "sg_1") is not None


async def test_writer_gives_up_at_its_deadline_and_blocks_no_other(
    services: list[Database], migrated_sqlite_url: str
) -> None:
    async with Database.open(migrated_sqlite_url, timeout=0.1) as impatient:
        async with services[0].transaction():
            async with ticking() as ticks:
                with pytest.raises(DatabaseUnavailable, match="in time"):
                    await write(impatient, "sg_1")
            assert ticks.seconds < 10
        await asyncio.wait_for(write(services[1], "sg_1"), DEADLINE_SECONDS)


async def test_writer_of_another_process_causes_a_conflict(services: list[Database], migrated_sqlite_url: str) -> None:
    file = Path(str(make_url(migrated_sqlite_url).database))
    async with services[0].read_connection() as reading:  # the pool hands the same connection out again
        await reading.execute(text("PRAGMA busy_timeout = 50"))
    with other_process_writing(file) as other:
        with pytest.raises(DatabaseConflict):
            await write(services[0], "sg_1")
        other.communicate(b"\n", timeout=DEADLINE_SECONDS)
    await write(services[0], "sg_1")


def other_process_writing(file: Path) -> subprocess.Popen[bytes]:
    """Holds the lock until it is sent a line."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.readline(); c.execute('ROLLBACK'); c.close()"
    )
    process = subprocess.Popen([sys.executable, "-c", program, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_connection_closed_during_a_statement_releases_its_locks(tmp_path: Path) -> None:
    """As that of a task that was cancelled is: its cursor is only collected some time later."""
    path = tmp_path / "events.db"
    connection = sqlite3.connect(path, isolation_level=None, factory=RollbackOnClose)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (1), (2)")
    amid = connection.execute("SELECT a FROM t")
    assert amid.fetchone() == (1,)
    connection.close()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as another:
        another.execute("BEGIN IMMEDIATE")
        assert another.execute("SELECT count(*) FROM t").fetchone() == (0,)
    del amid
