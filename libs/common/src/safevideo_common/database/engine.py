"""The database: transactions, read connections and a probe, each with a deadline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safevideo_common.database.dialect import open_engine, sqlite_write_lock
from safevideo_common.database.errors import translate_errors
from safevideo_common.errors import StartupError
from safevideo_common.tasks import preserve_cancellation

PROBE_SECONDS: Final = 2.0


class Database:
    """A pool of connections to one database. All methods raise the errors of `database/errors.py`."""

    def __init__(self, engine: AsyncEngine, timeout: float) -> None:
        self._engine = engine
        self._read_engine = engine.execution_options(reading=True)
        self._timeout = timeout

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, pool_size: int = 5, timeout: float = 30.0) -> AsyncIterator[Self]:
        """Open a pool. It connects when it is first used, and the end of the block closes it.

        `timeout` is in seconds, for a whole transaction: the wait for a connection, the statements, the commit.
        Raises `StartupError` for an invalid URL.
        """
        async with open_database(url, pool_size) as engine:
            yield cls(engine, timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction. It commits at the end, and rolls back if the block raises."""
        with preserve_cancellation(), translate_errors():
            async with (
                asyncio.timeout(self._timeout),
                sqlite_write_lock(self._engine),
                self._engine.begin() as connection,
            ):
                yield connection

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reads; its transaction is rolled back."""
        with preserve_cancellation(), translate_errors():
            async with asyncio.timeout(self._timeout), self._read_engine.connect() as connection:
                yield connection

    async def probe(self) -> None:
        """Return if the database answers; raise `DatabaseUnavailable` if it does not within `PROBE_SECONDS`."""
        with preserve_cancellation(), translate_errors():
            async with asyncio.timeout(PROBE_SECONDS), self._read_engine.connect() as connection:
                await connection.execute(text("SELECT 1"))


@asynccontextmanager
async def open_database(url: str, pool_size: int) -> AsyncIterator[AsyncEngine]:
    """Open an engine without deadlines, for long work such as a migration. Raises `StartupError`."""
    try:
        opening = open_engine(make_url(url), pool_size)
    except (ArgumentError, TypeError):  # TypeError: an SQLite database in memory, which no two connections share
        raise StartupError("DATABASE_URL is not a database URL.") from None
    async with opening as engine:
        yield engine
