import pytest

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.marks import MarkBench


@pytest.fixture
async def bench(database: Database, log: FilteringBoundLogger) -> MarkBench:
    return MarkBench(database, log)
