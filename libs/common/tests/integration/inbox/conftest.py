import pytest

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.processor import ProcessorHarness


@pytest.fixture
async def harness(database: Database, log: FilteringBoundLogger) -> ProcessorHarness:
    return ProcessorHarness(database, log)
