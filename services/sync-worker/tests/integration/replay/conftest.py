from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import PERFORMER
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.harness.replay import ReplayHarness
from safevideo_testkit.stacks import StackUnderTest


@pytest.fixture
async def harness(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[ReplayHarness]:
    async with (
        Database.open(stack.database_url) as database,
        broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as publisher,
        broker.reader("test") as reader,
    ):
        starts = dict(await reader.end_offsets(PERFORMER))
        began = utc_now() - timedelta(seconds=1)
        yield ReplayHarness(database, broker, publisher, JobHarness(database, log), log, starts, began)
