"""Connections that the server closes since they are idle: in light traffic that is every one of them."""

import asyncio
import gc
import logging

import pytest
from sqlalchemy import make_url
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncEngine

from safevideo_common.database.dialect import open_engine
from safevideo_common.errors import StartupError
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually


async def connection_id(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(sql("SELECT CONNECTION_ID()"))


async def until_closed(other: AsyncEngine, number: object) -> None:
    """Wait until the server has closed the connection of this number, as `other` sees it."""

    async def is_closed() -> bool:
        async with other.connect() as connection:
            found = await connection.scalars(sql("SELECT id FROM information_schema.processlist"))
            return number not in found.all()

    await eventually(is_closed)


async def test_idle_connection_is_replaced_without_a_log_line(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.pool")
    server = make_url(url)
    impatient = server.update_query_dict({"idle_seconds": "1"})
    async with open_engine(impatient, 1) as engine, open_engine(server, 1) as other:
        first = await connection_id(engine)
        await until_closed(other, first)
        assert await connection_id(engine) != first
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon"])
def test_idle_time_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match="idle_seconds"):
        open_engine(make_url(f"mysql+aiomysql://u@127.0.0.1/x?idle_seconds={text}"), 1)


async def test_idle_connection_that_the_server_has_closed_is_closed_at_the_end(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_url(url)
    async with (
        open_engine(server, 1) as other,
        open_engine(server.update_query_dict({"idle_seconds": "1"}), 1) as engine,
    ):
        first = await connection_id(engine)
        await until_closed(other, first)
    gc.collect()  # one that was left open warns here, which fails the test
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


async def test_connection_that_is_cancelled_while_it_connects_is_closed() -> None:
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def never_greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        closed.set()
        writer.close()

    async with await asyncio.start_server(never_greet, "127.0.0.1", 0) as server, asyncio.timeout(DEADLINE_SECONDS):
        port = server.sockets[0].getsockname()[1]
        async with open_engine(make_url(f"mysql+aiomysql://u@127.0.0.1:{port}/x"), 1) as engine:
            connecting = asyncio.create_task(connection_id(engine))
            await accepted.wait()
            while not connecting.done():  # asyncio's own wait for the socket may swallow the first one
                connecting.cancel()
                await asyncio.wait([connecting], timeout=0.05)
            await closed.wait()
