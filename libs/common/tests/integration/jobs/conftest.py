import pytest

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.job_bench import JobBench


@pytest.fixture
async def bench(database: Database, log: FilteringBoundLogger) -> JobBench:
    return JobBench(database, log)
