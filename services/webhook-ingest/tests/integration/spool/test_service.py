"""The spool as a service has it: entered with its app, emptied when the app ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import Broker, Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import BackgroundTaskDied, run_until_failure
from webhook_ingest.publishing.spool_drainer import Probe
from webhook_ingest.publishing.spooling_publisher import SPOOLED, SpoolOptions, open_publisher
from webhook_ingest.settings import IngestSettings

Logged = Callable[[], Awaitable[dict[str, list[str]]]]


class Late:
    """A publisher that refuses until the log is said to be back."""

    def __init__(self, publisher: Producer) -> None:
        self.is_back = False
        self._publisher = publisher

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        if not self.is_back:
            raise BrokerUnavailable("not yet")
        return await self._publisher.publish(message)


def serving_with(publishing: Callable[[Producer], AsyncIterator[None]], broker: Broker) -> web.Application:
    async def door(app: web.Application) -> AsyncIterator[None]:
        async with broker.producer("test") as publisher:
            async for _ in publishing(publisher):
                yield

    app = web.Application()
    app.cleanup_ctx.append(door)
    return app


async def test_an_app_that_ends_empties_its_spool_first(
    broker: Broker, settings: IngestSettings, log: FilteringBoundLogger, logged: Logged, tmp_path: Path
) -> None:
    registry, options = CollectorRegistry(), SpoolOptions(tmp_path / "spool", drain_seconds=20.0)

    async def publishing(publisher: Producer) -> AsyncIterator[None]:
        late = Late(publisher)
        async with open_publisher(app, late, broker.probe, options, log, registry) as safe:
            for number in range(20):
                partition, _ = await safe.publish(Message("events", b"a", b"%d" % number))
                assert partition.partition == SPOOLED
            assert registry.get_sample_value("safevideo_spool_events") == 20
            yield
            late.is_back = True

    app = serving_with(publishing, broker)
    async with run_until_failure(app, settings):
        pass
    assert await logged() == {"a": [str(number) for number in range(20)]}
    assert not list((tmp_path / "spool").glob("*/*.spool"))


async def test_an_app_whose_spool_is_not_emptied_any_more_fails(
    broker: Broker, settings: IngestSettings, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    async def broken() -> NoReturn:
        raise ZeroDivisionError

    probe: Probe = broken

    async def publishing(publisher: Producer) -> AsyncIterator[None]:
        options = SpoolOptions(tmp_path / "spool", max_bytes=1, drain_seconds=0.0)
        async with open_publisher(app, Late(publisher), probe, options, log, CollectorRegistry()) as safe:
            with pytest.raises(BrokerUnavailable):
                await safe.publish(Message("events", b"a", b"1"))
            yield

    app = serving_with(publishing, broker)
    async with asyncio.timeout(20), run_until_failure(app, settings) as (_, failed):
        with pytest.raises(BackgroundTaskDied, match="spool ended: ZeroDivisionError"):
            await failed
