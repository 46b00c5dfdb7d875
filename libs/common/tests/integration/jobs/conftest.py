"""Each test with `harness` or `database` runs on SQLite and on the MySQL family, with empty tables."""

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name
from safevideo_testkit.harness.jobs import JobHarness


@pytest.fixture
async def harness(database: Database, log: FilteringBoundLogger) -> JobHarness:
    return JobHarness(database, log)
