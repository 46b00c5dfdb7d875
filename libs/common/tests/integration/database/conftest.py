"""Every test that takes `database` or `database_url` runs on SQLite and on the MySQL family."""

from collections.abc import AsyncIterator

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_testkit.eventually import DEADLINE_SECONDS

ENGINES = ("sqlite", pytest.param("mysql", marks=pytest.mark.mysql))


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database."""
    fixture = "fresh_sqlite_url" if request.param == "sqlite" else "fresh_mysql_database"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    """URL of a database at this build's schema, without a row."""
    await migrate(database_url)
    return database_url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """The same, opened."""
    async with Database.open(migrated_url, timeout=DEADLINE_SECONDS) as database:
        yield database
