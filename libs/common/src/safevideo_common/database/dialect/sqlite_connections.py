"""SQLite connections, each with a thread of its own, none of which outlives its engine.

The driver does not wait for the thread of a connection that failed or was cancelled while it was being made, nor for
one that the pool gives up at a deadline. Such a thread would report to an event loop that is closed by then, with its
file still open.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiosqlite

BUSY_SECONDS: Final = 5
"""What a statement waits while another process has the file."""

_GRACE_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_SETTINGS: Final = ("synchronous = FULL", "foreign_keys = ON")


class RollbackOnClose(sqlite3.Connection):
    """Gives its locks back when it is closed.

    One that is closed amid a statement, as that of a task that was cancelled is, stays open inside of SQLite until the
    statement's cursor is collected, and with it its transaction: nobody could write.
    """

    def close(self) -> None:
        """Roll back, then close."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


class SqliteConnections:
    """Makes connections and knows those whose thread still runs."""

    def __init__(self) -> None:
        self._running: list[aiosqlite.Connection] = []

    async def connect(self, path: str, **settings: Any) -> aiosqlite.Connection:
        """A connection with our settings and those of the URL. Raises `sqlite3.Error`, or `TimeoutError`."""
        # Without an isolation level the driver leaves BEGIN to us.
        connection = aiosqlite.connect(
            path, isolation_level=None, timeout=BUSY_SECONDS, factory=RollbackOnClose, **settings
        )
        connection._thread.daemon = True  # a statement that hangs must not keep the process
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

    async def end(self) -> None:
        """Close what is left, and return when no thread runs any more: within what one statement may take."""
        left = _running(self._running)
        for connection in left:
            connection.stop()  # after what it was already asked to do
        await asyncio.to_thread(_join, left)


@asynccontextmanager
async def sqlite_connections() -> AsyncIterator[SqliteConnections]:
    """For one engine, which is disposed inside of the block."""
    connections = SqliteConnections()
    try:
        yield connections
    finally:
        await connections.end()


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    # For the first connections to a new file this changes it, one after the other, and here SQLite does not wait.
    async with asyncio.timeout(BUSY_SECONDS):
        while True:
            try:
                await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return


def _running(connections: Iterable[aiosqlite.Connection]) -> list[aiosqlite.Connection]:
    return [each for each in connections if each._thread.is_alive()]


def _join(connections: Iterable[aiosqlite.Connection]) -> None:
    for connection in connections:
        connection._thread.join(BUSY_SECONDS + _GRACE_SECONDS)
