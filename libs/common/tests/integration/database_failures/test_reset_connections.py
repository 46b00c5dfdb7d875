"""A connection that was reset: on the event loop of the services, a statement then raises `RuntimeError`."""

import asyncio
import gc
import logging
import warnings

import pytest
import uvloop
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable
from safevideo_testkit.faults.commit_proxy import CommitFaultProxy, open_commit_fault_proxy


async def reset_between_statements(database: Database, proxy: CommitFaultProxy) -> None:
    async with database.read_connection() as connection:
        await connection.execute(text("SELECT 1"))
        proxy.reset_all()
        for _ in range(20):
            await asyncio.sleep(0)  # the event loop learns of the reset
        await connection.execute(text("SELECT 1"))


async def execute_after_a_reset(url: str) -> None:
    async with open_commit_fault_proxy(url) as (proxied, proxy), Database.open(proxied) as database:
        with pytest.raises(DatabaseUnavailable):
            await reset_between_statements(database, proxy)
        async with database.read_connection() as connection:
            assert await connection.scalar(text("SELECT 7")) == 7


def test_statement_on_a_connection_that_was_reset_is_an_outage(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")  # or the log keeps the connection
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(execute_after_a_reset(url))
    with warnings.catch_warnings():  # aiomysql warns of a connection that it cannot close any more
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_transaction_raises_other_runtime_errors_as_they_are(database: Database) -> None:
    with pytest.raises(RuntimeError, match="a fault of ours"):
        async with database.transaction():
            raise RuntimeError("a fault of ours")
