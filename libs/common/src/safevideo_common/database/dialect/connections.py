"""Engines: how connections are opened and transactions begin."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import orjson
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from safevideo_common.database.dialect.columns import utc_datetime
from safevideo_common.database.dialect.sqlite import sqlite_connections
from safevideo_common.errors import StartupError

CONNECT_SECONDS: Final = 5
LOCK_WAIT_SECONDS: Final = 5
"""For a row. It is shorter than the deadline of a transaction, which then runs again on the same connection."""

SCHEMA_LOCK_SECONDS: Final = 20
"""For a table that is being altered. The default is a day, in which abandoned statements would wait."""

IDLE_SECONDS: Final = 15
"""The server ends the session of a frozen or lost process after this time, and so releases its row locks. A running
process takes less between two statements, and within one that it sends or reads."""

RECYCLE_SECONDS: Final = IDLE_SECONDS - 5
"""Age at which a pooled connection is replaced. MySQL does not distinguish an idle transaction from an idle connection,
so no connection of the pool may be idle for as long. Proxies and firewalls drop connections only later."""

_SESSION: Final = (
    f"SET innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, lock_wait_timeout = {SCHEMA_LOCK_SECONDS}, "
    f"wait_timeout = {IDLE_SECONDS}, net_read_timeout = {IDLE_SECONDS}, net_write_timeout = {IDLE_SECONDS}, "
    "time_zone = '+00:00'"
)


def open_engine(url: URL, pool_size: int) -> AbstractAsyncContextManager[AsyncEngine]:
    """Open an engine for the server of `url`. It connects when it is first used; the end closes its connections.

    If all `pool_size` connections are in use, a caller waits up to `CONNECT_SECONDS`. Raises `StartupError` for
    another kind of server.
    """
    if url.drivername == "mysql+aiomysql":
        return _mysql_engine(url, pool_size)
    if url.drivername == "sqlite+aiosqlite":
        return _sqlite_engine(url, pool_size)
    raise StartupError("DATABASE_URL must begin with mysql+aiomysql:// or sqlite+aiosqlite://.")


@asynccontextmanager
async def _mysql_engine(url: URL, pool_size: int) -> AsyncIterator[AsyncEngine]:
    session: dict[str, object] = {
        "charset": "utf8mb4",
        "conv": {**conversions, FIELD_TYPE.DATETIME: utc_datetime},  # a tenth of the driver's time
        "connect_timeout": CONNECT_SECONDS,
        "init_command": _SESSION,
        "sql_mode": "TRADITIONAL",  # a value that is too long is an error, never cut
    }
    # Under REPEATABLE READ gaps are locked too, and workers on different performers would deadlock.
    settings = {"isolation_level": "READ COMMITTED", "pool_recycle": RECYCLE_SECONDS}
    async with _disposed(_engine(url, pool_size, session, **settings)) as engine:
        yield engine


@asynccontextmanager
async def _sqlite_engine(url: URL, pool_size: int) -> AsyncIterator[AsyncEngine]:
    async with (
        sqlite_connections() as connections,
        _disposed(_engine(url, pool_size, {"async_creator_fn": connections.connect})) as engine,
    ):
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        yield engine


@asynccontextmanager
async def _disposed(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    try:
        yield engine
    finally:
        await engine.dispose()


def _engine(url: URL, pool_size: int, connect_args: dict[str, object], **settings: object) -> AsyncEngine:
    return create_async_engine(
        url,
        connect_args=connect_args,
        hide_parameters=True,  # the text of an error is logged, the values of the statement must not be
        json_serializer=lambda document: orjson.dumps(document).decode(),
        json_deserializer=orjson.loads,
        max_overflow=0,
        pool_size=pool_size,
        pool_timeout=CONNECT_SECONDS,
        **settings,
    )


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts with a read and then writes would fail at once if another wrote in between.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
