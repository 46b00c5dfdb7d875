"""The database that the environment names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from safevideo_common.database.engine import Database
from safevideo_common.database.schema import check_schema
from safevideo_common.settings import DatabaseSettings, load_settings


def database_url() -> str:
    """`DATABASE_URL`. Raises `StartupError` when it is not set."""
    return load_settings(DatabaseSettings).database_url.get_secret_value()


@asynccontextmanager
async def opened_database() -> AsyncIterator[Database]:
    """The database, at the schema of this build. Raises `StartupError`, or `SchemaBehind` before it is migrated."""
    async with Database.open(database_url(), pool_size=1) as database:
        await check_schema(database)
        yield database
