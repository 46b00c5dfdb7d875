"""The database's mishaps, on a real server of the MySQL family.

`url` is a database of the test's own, `database` a way to it that no mishap touches, `seen` looks through that.
"""

from collections.abc import AsyncIterator

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.processor import ProcessorHarness


@pytest.fixture
def url(migrated_mysql_database: str) -> str:
    return migrated_mysql_database


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url, timeout=DEADLINE_SECONDS) as database:
        yield database


@pytest.fixture
def seen(database: Database, log: FilteringBoundLogger) -> ProcessorHarness:
    return ProcessorHarness(database, log)
