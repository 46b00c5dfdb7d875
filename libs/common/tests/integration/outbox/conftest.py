import secrets
from collections.abc import AsyncIterator

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Topic
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.relay import RelayHarness
from safevideo_testkit.stacks import StackUnderTest


@pytest.fixture
async def harness(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[RelayHarness]:
    topic = f"test-{secrets.token_hex(6)}"
    await broker.create_topics([Topic(topic, PARTITIONS, DAY_MS)])
    async with Database.open(stack.database_url, timeout=20) as database:
        harness = RelayHarness(database, broker, topic, log)
        harness.acknowledged_within = DEADLINE_SECONDS  # a busy machine makes no duplicates
        yield harness
