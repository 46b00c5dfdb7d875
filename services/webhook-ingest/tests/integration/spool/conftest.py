"""A publisher with its spool, on a real broker that can be made unavailable."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS, read_by_key
from safevideo_testkit.eventually import running_task
from safevideo_testkit.harness.spool import TOPIC, BrokerGate, OpenHarness, ReadBroker, SpoolHarness, Watched
from webhook_ingest.publishing.spool_drainer import SpoolDrainer
from webhook_ingest.publishing.spooling_publisher import EARLIER_SECONDS, SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import MAX_BYTES, open_spool


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with open_broker("", tmp_path / "log") as broker:
        await broker.create_topics([Topic(TOPIC, PARTITIONS, DAY_MS)])
        yield broker


@pytest.fixture
def open_harness(broker: Broker, log: FilteringBoundLogger) -> OpenHarness:
    """Opens a harness on a spool's directory. It ends as a service does: first the task, then the last drain."""

    @asynccontextmanager
    async def open_harness(
        root: Path, *, max_bytes: int = MAX_BYTES, timeout: float = 30.0, drain: float = 0.0, state: str = "open"
    ) -> AsyncIterator[SpoolHarness]:
        observer = SpoolEvents(log, registry := CollectorRegistry())
        async with AsyncExitStack() as stack:
            producer = broker.producer("test", acknowledged_within=timeout + EARLIER_SECONDS)
            gate = BrokerGate(await stack.enter_async_context(producer), state)
            spool = await stack.enter_async_context(open_spool(root, observer, max_bytes))
            watched = Watched(gate)
            publisher = SpoolingPublisher(watched, spool, log, timeout + EARLIER_SECONDS)
            drainer = SpoolDrainer(publisher, watched, spool, gate.probe, log, timeout + EARLIER_SECONDS)
            observer.watch(publisher.depth)
            try:
                async with running_task(drainer.run()):
                    yield SpoolHarness(publisher, spool, gate, watched, registry)
            finally:
                publisher.close()
                await drainer.finish(drain)

    return open_harness


@pytest.fixture
async def harness(open_harness: OpenHarness, tmp_path: Path) -> AsyncIterator[SpoolHarness]:
    async with open_harness(tmp_path / "spool") as harness:
        yield harness


@pytest.fixture
def read_broker(broker: Broker) -> ReadBroker:
    """Returns the values of each key, in order."""

    async def read() -> dict[str, list[str]]:
        found = await read_by_key(broker, TOPIC)
        return {key.decode(): [value.decode() for value in values] for key, values in found.items()}

    return read
