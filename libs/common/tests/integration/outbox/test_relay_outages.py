"""The relay while Kafka or the database is killed or hangs."""

import asyncio

import pytest

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.relay import RelayHarness
from safevideo_testkit.stacks import REAL

on_real_backends = pytest.mark.parametrize("stack", [REAL], indirect=True)
SHORT_LEASE = 1.0


def numbers(start: int, end: int) -> list[str]:
    return [str(number) for number in range(start, end)]


@on_real_backends
async def test_relay_keeps_order_when_kafka_is_killed(harness: RelayHarness, kafka_server: RunningServer) -> None:
    harness.acknowledged_within = ACKNOWLEDGED_WITHIN_SECONDS
    async with harness.running():
        for start in range(0, 4000, 1000):
            await harness.record(*numbers(start, start + 1000), keys=3)
        kafka_server.kill()
        await harness.record(*numbers(4000, 4300), keys=3)
        await eventually(lambda: _has_failed(harness))
        await asyncio.to_thread(kafka_server.start)
        await harness.until_empty()
    for key in range(3):
        published = await harness.first_published(f"sg_{key}")
        received = [int(number) for number in published]
        assert sorted(received) == [number for number in range(4300) if _key_of(number) == key]
        assert received == sorted(received)


@on_real_backends
async def test_relay_keeps_order_when_kafka_hangs(harness: RelayHarness, kafka_server: RunningServer) -> None:
    harness.acknowledged_within = ACKNOWLEDGED_WITHIN_SECONDS
    async with harness.running(SHORT_LEASE):
        with kafka_server.paused():
            await harness.record(*numbers(0, 1500))
            await eventually(lambda: _has_failed(harness))
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 1500)


@on_real_backends
async def test_relay_continues_after_the_database_is_killed(harness: RelayHarness, mysql_server: RunningServer) -> None:
    await harness.record(*numbers(0, 1500))
    async with harness.running(SHORT_LEASE) as publisher:
        await eventually(lambda: _at_work(publisher))
        mysql_server.kill()
        await eventually(lambda: _has_failed(harness))
        await asyncio.to_thread(mysql_server.start)
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 1500)


def _key_of(number: int) -> int:
    """Keys alternate from the beginning of each transaction, which begins at a thousand."""
    return number % 1000 % 3


async def _has_failed(harness: RelayHarness) -> bool:
    return harness.metric("publish_failures_total") > 0


async def _at_work(publisher: object) -> bool:
    return bool(getattr(publisher, "batches", 0))
