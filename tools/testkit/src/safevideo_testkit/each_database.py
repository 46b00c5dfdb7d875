"""Fixtures that run a test on SQLite and on the MySQL family. A folder's `conftest.py` imports them."""

from collections.abc import AsyncIterator

import pytest

from safevideo_common.database.engine import Database
from safevideo_testkit.stacks import MIGRATED

__all__ = ["database", "database_kind", "database_url", "migrated_url"]


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of database."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str) -> str:
    """Return the URL of an empty database."""
    url: str = request.getfixturevalue("fresh_sqlite_url" if database_kind == "sqlite" else "fresh_mysql_database")
    return url


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, database_kind: str) -> str:
    """Return the URL of a database with this build's schema and no rows."""
    url: str = request.getfixturevalue(MIGRATED[database_kind])
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """Open the migrated database."""
    async with Database.open(migrated_url, timeout=20) as database:
        yield database
