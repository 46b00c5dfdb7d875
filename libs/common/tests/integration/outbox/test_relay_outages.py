"""Kafka and the database die for good reasons: the relay waits, and what it was at is told when they are back."""

import asyncio

import pytest

from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.relay import RelayHarness
from safevideo_testkit.stacks import REAL

on_real_backends = pytest.mark.parametrize("stack", [REAL], indirect=True)
SHORT_LEASE = 1.0


def numbers(start: int, end: int) -> list[str]:
    return [str(number) for number in range(start, end)]


@on_real_backends
async def test_a_kafka_that_is_killed_while_it_is_told_gets_everything_in_order(
    harness: RelayHarness, kafka_server: RunningServer
) -> None:
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
        told = [int(number) for number in published]
        assert sorted(told) == [number for number in range(4300) if _key_of(number) == key]
        assert told == sorted(told)


@on_real_backends
async def test_a_kafka_that_hangs_is_waited_for_and_told_in_order(
    harness: RelayHarness, kafka_server: RunningServer
) -> None:
    async with harness.running(SHORT_LEASE):
        with kafka_server.paused():
            await harness.record(*numbers(0, 1500))
            await eventually(lambda: _has_failed(harness))
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 1500)


@on_real_backends
async def test_a_database_that_is_killed_is_waited_for(harness: RelayHarness, mysql_server: RunningServer) -> None:
    await harness.record(*numbers(0, 1500))
    async with harness.running(SHORT_LEASE) as port:
        await eventually(lambda: _at_work(port))
        mysql_server.kill()
        await eventually(lambda: _has_failed(harness))
        await asyncio.to_thread(mysql_server.start)
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 1500)


def _key_of(number: int) -> int:
    """Keys take turns from the beginning of each transaction, which begins at a thousand."""
    return number % 1000 % 3


async def _has_failed(harness: RelayHarness) -> bool:
    return harness.metric("failures_total") > 0


async def _at_work(port: object) -> bool:
    return bool(getattr(port, "batches", 0))
