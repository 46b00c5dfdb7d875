"""A server that is there and does not do what it is asked: waited out, and no event is blamed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from safevideo_common.database.engine import Database, open_database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.consumer import run_sample_consumer, wait_for_pause, wait_for_words
from safevideo_testkit.harness.processor import ProcessorHarness


@asynccontextmanager
async def refusing(database: Database, code: int) -> AsyncIterator[None]:
    """Every new row of the inbox is refused with this error of the server."""
    signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'refused'"
    await run(database, f"CREATE TRIGGER refusing BEFORE INSERT ON event_inbox FOR EACH ROW {signal}")
    yield
    await run(database, "DROP TRIGGER refusing")


async def run(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(text(statement))


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(1021, id="disk full"),
        pytest.param(1041, id="out of memory"),
        pytest.param(1114, id="table full"),
        pytest.param(1290, id="read-only"),
        pytest.param(1836, id="read-only on MySQL"),
    ],
)
async def test_consumer_retries_while_the_server_cannot_write(
    code: int,
    url: str,
    database: Database,
    seen: ProcessorHarness,
    log: FilteringBoundLogger,
    logs: Path,
    tmp_path: Path,
) -> None:
    async with Database.open(url) as of_worker, run_sample_consumer(of_worker, tmp_path, log) as stream:
        async with refusing(database, code):
            await stream.publish("sg_1", "a", "b")
            await wait_for_pause(logs)
        await wait_for_words(seen, {"sg_1": "a b"})


async def test_consumer_retries_while_the_pool_is_exhausted(
    url: str, seen: ProcessorHarness, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> None:
    async with open_database(url, pool_size=2) as engine, AsyncExitStack() as others:
        of_worker, of_others = Database(engine, timeout=0.3), Database(engine, timeout=30)
        async with run_sample_consumer(of_worker, tmp_path, log) as stream:
            for _ in range(2):
                _ = await others.enter_async_context(of_others.read_connection())
            await stream.publish("sg_1", "a")
            await wait_for_pause(logs)
            await others.aclose()
            await wait_for_words(seen, {"sg_1": "a"})
