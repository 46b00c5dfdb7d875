import secrets
from collections.abc import AsyncIterator

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.messaging.port import EventLog, Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.log_steps import DAY_MS, PARTITIONS
from safevideo_common.testing.relay_bench import RelayBench
from safevideo_common.testing.stacks import StackUnderTest


@pytest.fixture
async def relay_bench(
    stack: StackUnderTest, event_log: EventLog, log: FilteringBoundLogger
) -> AsyncIterator[RelayBench]:
    topic = f"test-{secrets.token_hex(6)}"
    await event_log.create_topics([Topic(topic, PARTITIONS, DAY_MS)])
    async with Database.open(stack.database_url, timeout=20) as database:
        yield RelayBench(database, event_log, topic, log)
