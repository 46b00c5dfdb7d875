"""Each test with `harness` or `database` runs on SQLite and on the MySQL family, with empty tables.

The tests share a MySQL database, because emptying its tables takes less CPU than a copy for each test.
"""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_job_tries, batch_jobs, outbox, schedule_fires
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.databases import copied, dropped
from safevideo_testkit.harness.jobs import JobHarness

WRITTEN = (batch_jobs, batch_job_tries, schedule_fires, outbox)


@pytest.fixture(scope="session")
def shared_mysql_url(migrated_mysql_template: str) -> Iterator[str]:
    url = copied(migrated_mysql_template)
    yield url
    dropped(url)


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("migrated_sqlite_url" if request.param == "sqlite" else "shared_mysql_url")
    if request.param == "mysql":
        asyncio.run(emptied(url))
    return url


async def emptied(url: str) -> None:
    async with Database.open(url) as database, database.transaction() as tx:
        for table in WRITTEN:
            await tx.execute(delete(table))


@pytest.fixture
async def harness(database: Database, log: FilteringBoundLogger) -> JobHarness:
    return JobHarness(database, log)
