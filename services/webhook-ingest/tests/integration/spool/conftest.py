"""A door's publisher with its spool, on a real log that can be taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Topic
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS
from safevideo_testkit.harness.spool import (
    TOPIC,
    BrokerGate,
    Logged,
    Opened,
    SpoolHarness,
    Watched,
)
from webhook_ingest.publishing.in_flight import BEFORE_PUBLISHER_SECONDS
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolMetrics
from webhook_ingest.spool.spool import MAX_BYTES, open_spool


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with open_broker("", tmp_path / "log") as log:
        await log.create_topics([Topic(TOPIC, PARTITIONS, DAY_MS)])
        yield log


@pytest.fixture
def opened(broker: Broker, log: FilteringBoundLogger) -> Opened:
    """Opens a bench on a spool's folder. It ends as a service does: its task first, then it drains for a while."""

    @asynccontextmanager
    async def open_bench(
        root: Path, *, max_bytes: int = MAX_BYTES, deadline: float = 1.0, drain: float = 0.0, state: str = "open"
    ) -> AsyncIterator[SpoolHarness]:
        metrics = SpoolMetrics(registry := CollectorRegistry())
        async with AsyncExitStack() as stack:
            gate = BrokerGate(await stack.enter_async_context(broker.producer("test")), state)
            spool = await stack.enter_async_context(open_spool(root, log, metrics, max_bytes))
            watched = Watched(gate)
            keeping = SpoolingPublisher(watched, spool, gate.probe, log, deadline + BEFORE_PUBLISHER_SECONDS)
            metrics.watch(keeping.depth)
            task = asyncio.create_task(keeping.run(), name="test-draining")
            try:
                yield SpoolHarness(keeping, spool, gate, watched, registry)
            finally:
                task.cancel()
                await asyncio.wait([task])
                await keeping.finish(drain)

    return open_bench


@pytest.fixture
async def bench(opened: Opened, tmp_path: Path) -> AsyncIterator[SpoolHarness]:
    async with opened(tmp_path / "spool") as bench:
        yield bench


@pytest.fixture
def logged(broker: Broker) -> Logged:
    """By key, the values of all that is in the log, in order."""

    async def read() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        async with broker.reader("test") as reader:
            for partition, end in (await reader.end_offsets(TOPIC)).items():
                at = 0
                while at < end:
                    for record in await reader.read(partition, at, 1000):
                        found.setdefault(record.key.decode(), []).append(record.value.decode())
                        at = record.offset + 1
        return found

    return read
