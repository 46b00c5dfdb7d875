"""The publisher in a service: opened with its app, drained when the app ends."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, PartitionedProducer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_common.supervisor import Supervisor
from safevideo_common.web.app import SUPERVISOR
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.spool import ReadBroker
from webhook_ingest.publishing import SpoolOptions, open_publisher
from webhook_ingest.publishing.spooling_publisher import SPOOLED
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.reporting import SpoolEvents


class LateProducer:
    """A producer that fails until `is_available` is set."""

    def __init__(self, producer: PartitionedProducer) -> None:
        self.is_available = False
        self._producer = producer

    def partition_of(self, message: Message) -> TopicPartition:
        return self._producer.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        if not self.is_available:
            raise BrokerUnavailable("not yet")
        return await self._producer.publish(message)


def serving_with(publishing: Callable[[PartitionedProducer], AsyncIterator[None]], broker: Broker) -> web.Application:
    async def endpoint(app: web.Application) -> AsyncIterator[None]:
        async with broker.producer("test", acknowledged_within=30.1) as producer:
            async for _ in publishing(producer):
                yield

    app = web.Application()
    app.cleanup_ctx.append(endpoint)
    return app


async def test_app_drains_its_spool_before_it_ends(
    broker: Broker, settings: IngestSettings, log: FilteringBoundLogger, read_broker: ReadBroker, tmp_path: Path
) -> None:
    registry, options = (
        CollectorRegistry(),
        SpoolOptions(tmp_path / "spool", drain_seconds=20.0, produce_timeout_seconds=30.0),
    )

    async def publishing(producer: PartitionedProducer) -> AsyncIterator[None]:
        late, observer = LateProducer(producer), SpoolEvents(log, registry)
        async with open_publisher(app, late, broker.probe, options, log, observer) as publisher:
            for number in range(20):
                partition, _ = await publisher.publish(Message("events", b"a", b"%d" % number))
                assert partition.partition == SPOOLED
            assert registry.get_sample_value("safevideo_spool_events") == 20
            yield
            late.is_available = True

    app = serving_with(publishing, broker)
    app[SUPERVISOR] = Supervisor(log, registry)
    async with run_until_failure(app, settings):
        pass
    assert await read_broker() == {"a": [str(number) for number in range(20)]}
    assert not list((tmp_path / "spool").glob("*/*.spool"))


async def test_drainer_that_ends_is_started_again(
    broker: Broker, settings: IngestSettings, log: FilteringBoundLogger, read_broker: ReadBroker, tmp_path: Path
) -> None:
    registry, probes = CollectorRegistry(), 0

    async def broken_once() -> None:
        nonlocal probes
        probes += 1
        if probes == 1:
            raise ZeroDivisionError
        await broker.probe()

    async def is_back() -> bool:
        return registry.get_sample_value("safevideo_spool_kafka_unavailable") == 0

    async def publishing(producer: PartitionedProducer) -> AsyncIterator[None]:
        options = SpoolOptions(tmp_path / "spool", max_bytes=1, drain_seconds=0.0)
        late, observer = LateProducer(producer), SpoolEvents(log, registry)
        async with open_publisher(app, late, broken_once, options, log, observer) as publisher:
            with pytest.raises(BrokerUnavailable):
                await publisher.publish(Message("events", b"a", b"1"))
            late.is_available = True
            await eventually(is_back)
            await publisher.publish(Message("events", b"a", b"2"))
            yield

    app = serving_with(publishing, broker)
    app[SUPERVISOR] = Supervisor(log, registry)
    async with run_until_failure(app, settings):
        assert await read_broker() == {"a": ["2"]}
    assert registry.get_sample_value("safevideo_background_task_failures_total", {"task": "spool"}) == 1
