"""The relay, on each stack: at least once, in order within each key, whatever dies, freezes or is away."""

import asyncio
import time
from datetime import timedelta

import pytest

from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.harness.relay import RelayHarness, SimulatedCrash

SHORT_LEASE = 0.3


def dies(_: int) -> None:
    raise SimulatedCrash


def numbers(start: int, end: int) -> list[str]:
    return [str(number) for number in range(start, end)]


async def test_what_is_recorded_is_published_in_order_and_gone(harness: RelayHarness) -> None:
    await harness.record(*numbers(0, 1200))
    async with harness.running():
        await harness.until_empty()
        await harness.record(*numbers(1200, 1210))
        await harness.until_empty()
    assert await harness.published() == numbers(0, 1210)
    assert harness.metric("relayed_total") == 1210


async def test_a_relay_that_dies_between_publishing_and_deleting_makes_duplicates_only(
    harness: RelayHarness,
) -> None:
    await harness.record(*numbers(0, 20))
    async with harness.relay() as (relay, port):
        await relay.lease.acquire()
        port.after = dies
        with pytest.raises(SimulatedCrash):
            await relay.relay()
        await relay.lease.release()
    assert await harness.depth() == 20
    async with harness.running():
        await harness.until_empty()
    assert await harness.published() == numbers(0, 20) * 2


async def test_a_relay_that_is_cancelled_while_it_publishes_loses_nothing(harness: RelayHarness) -> None:
    for start in range(0, 300, 100):
        await harness.record(*numbers(start, start + 100))
        async with harness.relay() as (relay, port), running_task(relay.run()):
            await eventually(lambda port=port: _at_work(port))  # type: ignore[misc]
    async with harness.running():
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 300)


async def _at_work(port: object) -> bool:
    return bool(getattr(port, "batches", 0))


async def test_of_two_relays_one_is_at_work_and_nothing_is_published_twice(harness: RelayHarness) -> None:
    async with harness.running() as one, harness.running() as other:
        for start in range(0, 200, 20):
            await harness.record(*numbers(start, start + 20))
        await harness.until_empty()
        assert sorted((bool(one.batches), bool(other.batches))) == [False, True]
    assert await harness.published() == numbers(0, 200)


async def test_when_the_relay_stops_another_goes_on_at_once(harness: RelayHarness) -> None:
    async with harness.relay() as (relay, _):
        await relay.lease.acquire()
        async with harness.running() as standby:
            await harness.record("a")
            stopped_at = time.monotonic()
            await relay.lease.release()
            await harness.until_empty()
            assert standby.batches
    assert time.monotonic() - stopped_at < 10  # a lease that is not released lasts 15 s


async def test_a_frozen_relay_that_thaws_makes_duplicates_only_and_deletes_nothing_that_is_new(
    harness: RelayHarness,
) -> None:
    await harness.record(*numbers(0, 30), keys=3)
    async with harness.relay(SHORT_LEASE) as (frozen, port):
        await frozen.lease.acquire()
        port.resumed.clear()
        async with running_task(_zombie(frozen.run())):
            await eventually(lambda: _at_work(port))
            async with harness.running():
                await harness.until_empty()
                await harness.record(*numbers(30, 60), keys=3)
                await harness.until_empty()
                port.resumed.set()  # it publishes what the other has published long ago
                await eventually(lambda: _has_published_again(harness))
            await harness.record(*numbers(60, 90), keys=3)
            await harness.until_empty()
    for key in range(3):
        assert await harness.first_published(f"sg_{key}") == numbers(0, 90)[key::3]


async def _zombie(run: object) -> None:
    await run  # type: ignore[misc]


async def _has_published_again(harness: RelayHarness) -> bool:
    return len(await harness.published()) >= 30


async def test_while_the_log_is_away_everything_waits_and_then_goes_on(harness: RelayHarness) -> None:
    def is_away(number: int) -> None:
        if number <= 3:
            raise BrokerUnavailable("away")

    async with harness.running() as port:
        port.before = is_away
        await harness.record(*numbers(0, 10))
        await harness.until_empty()
    assert harness.metric("failures_total") == 3
    assert await harness.published() == numbers(0, 10)


async def test_a_relay_that_does_not_reach_the_log_leaves_it_to_another(harness: RelayHarness) -> None:
    def is_away(_: int) -> None:
        raise BrokerUnavailable("away from here")

    async with harness.relay(SHORT_LEASE) as (cut_off, port):
        port.before = is_away
        await cut_off.lease.acquire()
        await harness.record("a", "b")
        async with running_task(cut_off.run()), harness.running():
            await harness.until_empty()
    assert await harness.published() == ["a", "b"]


async def test_what_the_log_does_not_take_is_dropped_with_a_line_and_the_rest_goes_on(
    harness: RelayHarness,
) -> None:
    await harness.record("a", b"x" * (MAX_VALUE_BYTES + 1), "b")
    async with harness.running():
        await harness.until_empty()
    assert await harness.published() == ["a", "b"]
    assert harness.metric("dropped_total") == 1


async def test_what_another_process_records_is_found_without_being_told(harness: RelayHarness) -> None:
    async with harness.running():
        await asyncio.sleep(0)
        harness.wakeup = asyncio.Event()  # what it records from now on, it does not say
        await harness.record("a")
        await harness.until_empty()
    assert await harness.published() == ["a"]


async def test_what_waits_is_measured_also_by_a_process_that_does_not_relay(harness: RelayHarness) -> None:
    await harness.record(*numbers(0, 12))
    async with running_task(harness.monitor_depth(timedelta(seconds=70))):
        await eventually(lambda: _is_measured(harness, 12))
    assert 69 < harness.metric("oldest_seconds") < 130


async def _is_measured(harness: RelayHarness, rows: int) -> bool:
    return harness.metric("rows") == rows
