"""Fixtures that run a test on SQLite and on the MySQL family. A folder's `conftest.py` imports them."""

from collections.abc import AsyncIterator

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate

__all__ = ["database", "database_url", "migrated_url"]


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database."""
    fixture = "fresh_sqlite_url" if request.param == "sqlite" else "fresh_mysql_database"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    """Return the URL of a database with this build's schema and no rows."""
    await migrate(database_url)
    return database_url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """Open the migrated database."""
    async with Database.open(migrated_url, timeout=20) as database:
        yield database
