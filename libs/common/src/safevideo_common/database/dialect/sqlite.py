"""SQLite: the queue of writers, and connections whose threads end with their engine.

SQLite has one writer at a time, and a writer that finds it busy polls. In a process with several services the busiest
one would win most of these races. So the writers of a process queue here in order of arrival, and only the first one
asks SQLite, which keeps other processes out.

The driver does not wait for the thread of a connection that fails or is cancelled while it opens, nor for one that the
pool gives up at a deadline. Such a thread would report to a closed event loop, with its file still open.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine

BUSY_SECONDS: Final = 5
"""The time that a statement waits while another process has the file."""

_GRACE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01
_SETTINGS: Final = ("synchronous = FULL", "foreign_keys = ON")

_write_locks: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]]] = WeakKeyDictionary()


def sqlite_write_lock(engine: AsyncEngine) -> AbstractAsyncContextManager[object]:
    """Return the lock of this file's writers in this event loop. MySQL locks rows, so there it does nothing."""
    if engine.dialect.name != "sqlite":
        return nullcontext()
    locks = _write_locks.setdefault(asyncio.get_running_loop(), {})
    return locks.setdefault(Path(engine.url.database or "").absolute(), asyncio.Lock())


class RollbackOnClose(sqlite3.Connection):
    """A connection that releases its locks when it is closed.

    If a task is cancelled, its connection is closed during a statement. It stays open inside SQLite, with its
    transaction, until the cursor of the statement is collected. Nobody could write until then.
    """

    def close(self) -> None:
        """Roll back, then close."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


class SqliteConnections:
    """The connections of one engine whose threads still run."""

    def __init__(self) -> None:
        self._running: list[aiosqlite.Connection] = []

    async def connect(self, path: str, **settings: Any) -> aiosqlite.Connection:
        """Open a connection with our settings and those of the URL. Raises `sqlite3.Error`, `TimeoutError`."""
        # Without an isolation level the driver sends no BEGIN of its own.
        connection = aiosqlite.connect(
            path, isolation_level=None, timeout=BUSY_SECONDS, factory=RollbackOnClose, **settings
        )
        connection._thread.daemon = True  # private, no public way: a hanging statement must not keep the process
        self._running = [*_running(self._running), connection]
        await connection  # type: ignore[unused-awaitable] # it is what it awaits
        try:
            await _write_ahead(connection)
            for setting in _SETTINGS:
                await connection.execute_fetchall(f"PRAGMA {setting}")
        except BaseException:
            connection.stop()
            raise
        return connection

    async def close(self) -> None:
        """Close the open connections. Return when no thread runs, within the time of one statement."""
        connections = _running(self._running)
        for connection in connections:
            connection.stop()  # after the statements in its queue
        await asyncio.to_thread(_join, connections)


@asynccontextmanager
async def sqlite_connections() -> AsyncIterator[SqliteConnections]:
    """Yield the connections of one engine, which must be disposed inside the block."""
    connections = SqliteConnections()
    try:
        yield connections
    finally:
        await connections.close()


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    # The first connection to a new file changes the mode. For this statement SQLite does not wait for others.
    async with asyncio.timeout(BUSY_SECONDS):
        while True:
            try:
                await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return


def _running(connections: Iterable[aiosqlite.Connection]) -> list[aiosqlite.Connection]:
    return [each for each in connections if each._thread.is_alive()]


def _join(connections: Iterable[aiosqlite.Connection]) -> None:
    for connection in connections:
        connection._thread.join(BUSY_SECONDS + _GRACE_SECONDS)
