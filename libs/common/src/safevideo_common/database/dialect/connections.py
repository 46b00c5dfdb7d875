"""Engines: how connections are opened and transactions begin."""

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiomysql import Connection as MySQLConnection
from aiomysql import OperationalError
from pymysql.constants import CLIENT, CR, FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from safevideo_common.database.dialect.columns import utc_datetime
from safevideo_common.database.dialect.sqlite import sqlite_connections
from safevideo_common.errors import StartupError
from safevideo_common.tls import TlsFiles, client_context

CONNECT_SECONDS: Final = 5
LOCK_WAIT_SECONDS: Final = 5
"""For a row. It is shorter than the deadline of a transaction, which then runs again on the same connection."""

SCHEMA_LOCK_SECONDS: Final = 20
"""For a table that is being altered. The default is a day, in which abandoned statements would wait."""

IDLE_SECONDS: Final = 15
"""The server ends the session of a frozen or lost process after this time, and so releases its row locks. A running
process takes less between two statements, and within one that it sends or reads."""

RECYCLE_SHARE: Final = 2 / 3
"""Share of the idle time after which a pooled connection is replaced. MySQL does not distinguish an idle transaction
from an idle connection, so no connection of the pool may be idle for as long. Proxies and firewalls drop them later."""


def _session(idle_seconds: int) -> str:
    return (
        f"SET innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, lock_wait_timeout = {SCHEMA_LOCK_SECONDS}, "
        f"wait_timeout = {idle_seconds}, net_read_timeout = {idle_seconds}, net_write_timeout = {idle_seconds}, "
        "time_zone = '+00:00'"
    )


def open_engine(url: URL, pool_size: int) -> AbstractAsyncContextManager[AsyncEngine]:
    """Open an engine for the server of `url`. It connects when it is first used; the end closes its connections.

    A MySQL server closes a connection that is idle for `IDLE_SECONDS`, or for the parameter `idle_seconds` of its URL
    where a proxy closes connections earlier; the pool replaces it before, without a log line.
    If all `pool_size` connections are in use, a caller waits up to `CONNECT_SECONDS`. Raises `StartupError` for
    another kind of server, and for parameters that cannot be used.

    The parameters `ssl_ca`, `ssl_cert` and `ssl_key` of a MySQL URL name PEM files. Each of them turns TLS on, and so
    does `ssl_mode=VERIFY_IDENTITY`, with the system's roots. The server's certificate and host are always verified.
    """
    if url.drivername == "mysql+aiomysql":
        return _mysql_engine(url.difference_update_query([_IDLE]), pool_size, _idle_seconds(url))
    if url.drivername == "sqlite+aiosqlite":
        return _sqlite_engine(url, pool_size)
    raise StartupError("DATABASE_URL must begin with mysql+aiomysql:// or sqlite+aiosqlite://.")


@asynccontextmanager
async def _mysql_engine(url: URL, pool_size: int, idle_seconds: int) -> AsyncIterator[AsyncEngine]:
    tls = _tls_of(url)
    if tls:
        url = url.difference_update_query(_TLS_PARAMETERS)
    session: dict[str, object] = {
        "charset": "utf8mb4",
        "conv": {**conversions, FIELD_TYPE.DATETIME: utc_datetime},  # a tenth of the driver's time
        "connect_timeout": CONNECT_SECONDS,
        "init_command": _session(idle_seconds),
        "sql_mode": "TRADITIONAL",  # a value that is too long is an error, never cut
        "async_creator_fn": partial(_connect, EncryptedConnection if tls else MySQLConnection),
    }
    if tls:
        session |= {"ssl": tls}
    # Under REPEATABLE READ gaps are locked too, and workers on different performers would deadlock.
    settings = {"isolation_level": "READ COMMITTED", "pool_recycle": idle_seconds * RECYCLE_SHARE}
    async with _disposed(_engine(url, pool_size, session, **settings)) as engine:
        _close_without_farewell(engine.dialect)
        yield engine


_IDLE: Final = "idle_seconds"


def _idle_seconds(url: URL) -> int:
    """Return the idle time of a URL. Raises `StartupError`."""
    text = url.query.get(_IDLE, str(IDLE_SECONDS))
    if not isinstance(text, str) or not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise StartupError("idle_seconds of DATABASE_URL must be a number of seconds from 1 to 99999.")
    return int(text)


_TLS_PARAMETERS: Final = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_mode")


def _tls_of(url: URL) -> ssl.SSLContext | None:
    """Return the TLS settings of a URL, or None for plain text. Raises `StartupError`."""
    parameters = {name: str(url.query[name]) for name in _TLS_PARAMETERS if name in url.query}
    if not parameters:
        return None
    if parameters.pop("ssl_mode", "VERIFY_IDENTITY") != "VERIFY_IDENTITY":
        raise StartupError("The only ssl_mode of DATABASE_URL is VERIFY_IDENTITY; without ssl_… there is no TLS.")
    files = (Path(parameters[name]) if name in parameters else None for name in _TLS_PARAMETERS[:3])
    return client_context("DATABASE_URL", TlsFiles(*files))


class EncryptedConnection(MySQLConnection):  # type: ignore[misc]  # aiomysql has no types
    """A connection that is encrypted or fails. aiomysql would go on in plain text if a server offers no TLS.

    Private attributes of aiomysql 0.3; `test_aiomysql_has_the_private_attributes` fails if an upgrade renames one.
    """

    async def _request_authentication(self) -> None:
        if not self.server_capabilities & CLIENT.SSL:
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS")
        await super()._request_authentication()


async def _connect(kind: type[MySQLConnection], **arguments: Any) -> MySQLConnection:
    """Connect. aiomysql leaves the socket open if it is cancelled meanwhile."""
    connection = kind(**arguments)
    try:
        await connection._connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _close_without_farewell(dialect: Dialect) -> None:
    """Let the pool drop a connection without a last message: the server may have closed it, and that is no error.

    At the end of the pool each connection gets its last message. One that the server has closed is then closed here
    too, which aiomysql leaves out.
    """

    def drop(connection: DBAPIConnection) -> None:
        dialect.get_driver_connection(connection).close()

    def close(connection: DBAPIConnection) -> None:
        try:
            connection.close()
        except OSError:
            pass
        finally:
            drop(connection)

    dialect.do_terminate = drop  # type: ignore[assignment, method-assign]  # hooks of the dialect, for this engine alone
    dialect.do_close = close  # type: ignore[assignment, method-assign]


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
