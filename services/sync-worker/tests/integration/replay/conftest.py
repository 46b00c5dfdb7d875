from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from replay_steps import ReplayBench

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import PERFORMER
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.job_bench import JobBench
from safevideo_common.testing.stacks import StackUnderTest


@pytest.fixture
async def bench(stack: StackUnderTest, event_log: EventLog, log: FilteringBoundLogger) -> AsyncIterator[ReplayBench]:
    async with (
        Database.open(stack.database_url) as database,
        event_log.publisher("test") as publisher,
        event_log.reader("test") as reader,
    ):
        starts = dict(await reader.end_offsets(PERFORMER))
        began = utc_now() - timedelta(seconds=1)
        yield ReplayBench(database, event_log, publisher, JobBench(database, log), log, starts, began)
