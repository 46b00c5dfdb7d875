"""Connections that the server closes since they are idle: in light traffic that is every one of them."""

import logging

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from safevideo_common.database.dialect import open_engine
from safevideo_testkit.eventually import eventually

IDLE_SECONDS = 1


async def connection_id(engine: AsyncEngine) -> object:
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT CONNECTION_ID()"))


async def test_idle_connection_is_replaced_without_a_log_line(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.pool")
    server = make_url(url)
    async with open_engine(server, 1, IDLE_SECONDS) as engine, open_engine(server, 1) as other:
        first = await connection_id(engine)

        async def is_closed() -> bool:
            async with other.connect() as connection:
                found = await connection.scalars(text("SELECT id FROM information_schema.processlist"))
                return first not in found.all()

        await eventually(is_closed)
        assert await connection_id(engine) != first
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []
