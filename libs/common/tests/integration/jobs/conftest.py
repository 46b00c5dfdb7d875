"""Each test with `harness` or `database` runs on SQLite and on the MySQL family, with empty tables.

The migrations run once for all tests, because they take longer than most of them.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import batch_job_tries, batch_jobs, outbox, schedule_fires
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.databases import created, dropped
from safevideo_testkit.harness.jobs import JobHarness

WRITTEN = (batch_jobs, batch_job_tries, schedule_fires, outbox)


@pytest.fixture(scope="session")
def shared_mysql_url(mysql_server_url: str) -> Iterator[str]:
    url = created(mysql_server_url)
    asyncio.run(migrate(url))
    yield url
    dropped(url)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite database to copy."""
    file = tmp_path_factory.mktemp("jobs") / "migrated.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{file}"))
    return file


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "mysql":
        url: str = request.getfixturevalue("shared_mysql_url")
        asyncio.run(emptied(url))
    else:
        file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "jobs.db")
        url = f"sqlite+aiosqlite:///{file}"
    return url


async def emptied(url: str) -> None:
    async with Database.open(url) as database, database.transaction() as tx:
        for table in WRITTEN:
            await tx.execute(delete(table))


@pytest.fixture
async def harness(database: Database, log: FilteringBoundLogger) -> JobHarness:
    return JobHarness(database, log)
