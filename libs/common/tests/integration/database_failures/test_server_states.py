"""What happens to the whole server: nobody else may use it meanwhile, so it is one of the test's own."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database, open_database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.harness.consumer import RecordingHandler, run_sample_consumer, wait_for_pause, wait_for_words
from safevideo_testkit.harness.processor import ProcessorHarness

MOST_CONNECTIONS = 10


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


@pytest.fixture
async def plain_url(mysql_server: RunningServer, url: str, database: Database) -> AsyncIterator[str]:
    """By an account like a service's: it reads and writes, and the server's bounds hold for it."""
    name, password = f"plain_{secrets.token_hex(4)}", secrets.token_hex(8)
    account = f"'{name}'@'127.0.0.1'"
    await run(
        database,
        f"CREATE USER {account} IDENTIFIED BY '{password}'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO {account}",
    )
    yield make_url(url).set(username=name, password=password).render_as_string(hide_password=False)
    await run(database, f"DROP USER {account}")


@asynccontextmanager
async def globally(database: Database, variable: str, value: int) -> AsyncIterator[None]:
    async with database.read_connection() as reading:
        before = await reading.scalar(text(f"SELECT @@GLOBAL.{variable}"))
    await run(database, f"SET GLOBAL {variable} = {value}")
    yield
    await run(database, f"SET GLOBAL {variable} = {before}")


async def test_consumer_retries_while_the_server_is_read_only(
    plain_url: str, database: Database, seen: ProcessorHarness, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> None:
    """What a failover looks like to those who still have the old primary."""
    async with Database.open(plain_url) as of_worker, run_sample_consumer(of_worker, tmp_path, log) as stream:
        async with globally(database, "read_only", 1):
            await stream.publish("sg_1", "a", "b")
            await wait_for_pause(logs, "1290")
        await wait_for_words(seen, {"sg_1": "a b"})


async def test_consumer_retries_while_the_server_has_no_free_connection(
    plain_url: str, database: Database, seen: ProcessorHarness, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> None:
    async with AsyncExitStack() as worker:
        of_worker = await worker.enter_async_context(Database.open(plain_url))
        async with globally(database, "max_connections", MOST_CONNECTIONS), AsyncExitStack() as others:
            engine = await others.enter_async_context(open_database(plain_url, pool_size=MOST_CONNECTIONS))
            async with database.read_connection() as reading:
                free = MOST_CONNECTIONS - await connections(reading)
            for _ in range(free):
                _ = await others.enter_async_context(engine.connect())
            stream = await worker.enter_async_context(run_sample_consumer(of_worker, tmp_path, log))
            await stream.publish("sg_1", "a")
            await wait_for_pause(logs, "1040")
        await wait_for_words(seen, {"sg_1": "a"})


async def connections(reading: AsyncConnection) -> int:
    clients = text("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID > 0 AND COMMAND <> 'Daemon'")
    return int(await reading.scalar(clients) or 0)


async def test_server_restart_fails_only_the_open_transaction(
    mysql_server: RunningServer, database: Database, seen: ProcessorHarness, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    handler = RecordingHandler()

    async def restart(_tx: AsyncConnection) -> None:
        if handler.loads == 1:
            await asyncio.to_thread(mysql_server.restart)

    handler.after = restart
    async with run_sample_consumer(database, tmp_path, log, handler) as stream:
        await stream.publish("sg_1", "a", "b", "c")
        await wait_for_words(seen, {"sg_1": "a b c"})
    assert handler.loads > 1
