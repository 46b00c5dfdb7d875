"""The relay on each stack: at least once and in order per key, after crashes and outages."""

import asyncio
from datetime import timedelta

import pytest

from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import UNKNOWN_PARTITION, BatchProducer
from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import PARTITIONS
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.stuck_partitions import SlowProducer, StuckPartitions
from safevideo_testkit.harness.relay import RelayHarness, SimulatedCrash

SHORT_LEASE = 0.3


def crash(_: int) -> None:
    raise SimulatedCrash


def numbers(start: int, end: int) -> list[str]:
    return [str(number) for number in range(start, end)]


async def test_relay_publishes_messages_in_order_and_deletes_them(harness: RelayHarness) -> None:
    await harness.record(*numbers(0, 1200))
    async with harness.running():
        await harness.until_empty()
        await harness.record(*numbers(1200, 1210))
        await harness.until_empty()
        await eventually(lambda: _has_metric(harness, "published_total", 1210))  # counted after the commit
    assert await harness.published() == numbers(0, 1210)


async def test_relay_crash_before_deletion_causes_only_duplicates(
    harness: RelayHarness,
) -> None:
    await harness.record(*numbers(0, 20))
    async with harness.relay() as (relay, publisher):
        await relay.lease.acquire()
        publisher.after = crash
        with pytest.raises(SimulatedCrash):
            await relay.relay()
        await relay.lease.release()
    assert await harness.depth() == 20
    async with harness.running():
        await harness.until_empty()
    assert await harness.published() == numbers(0, 20) * 2


async def test_cancelled_relay_loses_no_message(harness: RelayHarness) -> None:
    for start in range(0, 300, 100):
        await harness.record(*numbers(start, start + 100))
        async with harness.relay() as (relay, publisher), running_task(relay.run()):
            await eventually(lambda publisher=publisher: _at_work(publisher))  # type: ignore[misc]
    async with harness.running():
        await harness.until_empty()
    assert await harness.first_published() == numbers(0, 300)


async def _at_work(publisher: object) -> bool:
    return bool(getattr(publisher, "batches", 0))


async def test_two_relays_publish_each_message_once(harness: RelayHarness) -> None:
    async with harness.running() as one, harness.running() as other:
        for start in range(0, 200, 20):
            await harness.record(*numbers(start, start + 20))
        await harness.until_empty()
        assert sorted((bool(one.batches), bool(other.batches))) == [False, True]
    assert await harness.published() == numbers(0, 200)


async def test_standby_relay_continues_after_the_lease_is_released(harness: RelayHarness) -> None:
    async with harness.relay(lease_seconds=600) as (relay, _):  # not released, it would outlast `until_empty`
        await relay.lease.acquire()
        async with harness.running() as standby:
            await harness.record("a")
            await relay.lease.release()
            await harness.until_empty()
            assert standby.batches


async def test_frozen_relay_causes_only_duplicates_and_deletes_no_new_row(
    harness: RelayHarness,
) -> None:
    await harness.record(*numbers(0, 30), keys=3)
    async with harness.relay(SHORT_LEASE) as (frozen, publisher):
        await frozen.lease.acquire()
        publisher.resumed.clear()
        async with running_task(_zombie(frozen.run())):
            await eventually(lambda: _at_work(publisher))
            async with harness.running():
                await harness.until_empty()
                await harness.record(*numbers(30, 60), keys=3)
                await harness.until_empty()
                publisher.resumed.set()  # it publishes again
                await eventually(lambda: _has_published_again(harness))
            await harness.record(*numbers(60, 90), keys=3)
            await harness.until_empty()
    for key in range(3):
        assert await harness.first_published(f"sg_{key}") == numbers(0, 90)[key::3]


async def _zombie(run: object) -> None:
    await run  # type: ignore[misc]


async def _has_published_again(harness: RelayHarness) -> bool:
    return len(await harness.published()) >= 30


async def test_relay_retries_while_the_broker_is_unavailable(harness: RelayHarness) -> None:
    def fail(number: int) -> None:
        if number <= 3:
            raise BrokerUnavailable("unavailable")

    async with harness.running() as publisher:
        publisher.before = fail
        await harness.record(*numbers(0, 10))
        await harness.until_empty()
    assert harness.metric("publish_failures_total") == 3
    assert await harness.published() == numbers(0, 10)


async def test_relay_without_broker_leaves_the_lease_to_another(harness: RelayHarness) -> None:
    def fail(_: int) -> None:
        raise BrokerUnavailable("unavailable from here")

    async with harness.relay(SHORT_LEASE) as (cut_off, publisher):
        publisher.before = fail
        await cut_off.lease.acquire()
        await harness.record("a", "b")
        async with running_task(cut_off.run()), harness.running():
            await harness.until_empty()
    assert await harness.published() == ["a", "b"]


async def test_partition_that_takes_no_writes_delays_only_its_own_messages(harness: RelayHarness) -> None:
    stuck: list[StuckPartitions] = []

    def wrap(producer: BatchProducer) -> BatchProducer:
        stuck.append(StuckPartitions(producer, 0.2))
        return stuck[-1]

    harness.wrap, keys = wrap, 20
    async with harness.running() as publisher:
        await harness.record("first", keys=1)
        await harness.until_empty()  # the producer knows the partitions now
        stuck[0].stuck = {3}
        publisher.sent.clear()
        await harness.record(*numbers(0, 2000), keys=keys)
        blocked = {f"sg_{number}" for number in range(keys) if partition_of(b"sg_%d" % number, PARTITIONS) == 3}
        for start in range(2000, 4000, 500):  # the backlog of the partition exceeds a batch
            await harness.record(*numbers(start, start + 500), keys=keys)
            await eventually(lambda start=start: _has_rows(harness, (start + 500) * len(blocked) // keys))  # type: ignore[misc]
        await eventually(lambda: _has_metric(harness, "blocked_partitions", 1))
        healthy = [each for each in publisher.sent if each.key.decode() not in blocked]
        assert len(healthy) == len({each.value for each in healthy}) == 4000 - 4000 * len(blocked) // keys
        stuck[0].stuck = set()
        await harness.until_empty()
        await eventually(lambda: _has_metric(harness, "blocked_partitions", 0))
    for number in range(keys):
        published = await harness.first_published(f"sg_{number}")
        assert published[number == 0 :] == numbers(0, 4000)[number::keys]


async def test_slow_broker_makes_batches_smaller_and_publishes_each_message_once(harness: RelayHarness) -> None:
    sizes: list[int] = []
    harness.wrap = lambda producer: SlowProducer(producer, 30, sizes.append)
    await harness.record(*numbers(0, 500))
    async with harness.running():
        await harness.until_empty()
    assert await harness.published() == numbers(0, 500)
    assert sizes[:2] == [500, 250]
    assert len(sizes) < 60


async def test_new_relay_leaves_a_blocked_key_in_order(harness: RelayHarness) -> None:
    stuck: list[StuckPartitions] = []

    def wrap(producer: BatchProducer) -> BatchProducer:
        stuck.append(StuckPartitions(producer, 0.05))
        stuck[-1].stuck = {UNKNOWN_PARTITION, *range(PARTITIONS)}
        return stuck[-1]

    harness.wrap = wrap
    await harness.record(*numbers(0, 20))
    async with harness.running():
        await eventually(lambda: _has_metric(harness, "blocked_partitions", 1))
    harness.wrap = lambda producer: producer
    await harness.record(*numbers(20, 40))
    async with harness.running():  # it has no memory of the first one, and does not know the partitions yet
        await harness.until_empty()
    assert await harness.published() == numbers(0, 40)


async def test_messages_blocked_by_relays_that_know_the_partitions_and_by_others_are_published_in_order(
    harness: RelayHarness,
) -> None:
    keys, producers = 20, list[StuckPartitions]()

    def wrap(producer: BatchProducer) -> BatchProducer:
        producers.append(StuckPartitions(producer, 0.05))
        return producers[-1]

    harness.wrap = wrap
    async with harness.running():
        await harness.record("first", keys=1)
        await harness.until_empty()  # this relay knows the partitions
        producers[0].stuck = set(range(PARTITIONS))
        await harness.record(*numbers(0, 200), keys=keys)
        await eventually(lambda: _has_metric(harness, "blocked_partitions", PARTITIONS))
    async with harness.relay() as (relay, _):
        producers[1].knows_partitions, producers[1].stuck = False, {UNKNOWN_PARTITION}
        await harness.record(*numbers(200, 400), keys=keys)
        async with running_task(relay.run()):
            await eventually(lambda: _has_metric(harness, "blocked_partitions", PARTITIONS + 1))
    harness.wrap = lambda producer: producer
    await harness.record(*numbers(400, 600), keys=keys)
    async with harness.relay() as (relay, _):
        await eventually(relay.lease.acquire, 10.0)  # a lease that is not released lasts 15 s
        await relay.retry_blocked()
        assert await harness.published("sg_1")  # the oldest of its partition: it waits for nothing else
        async with running_task(relay.run()):
            await harness.until_empty()
    for number in range(keys):
        assert (await harness.published(f"sg_{number}"))[number == 0 :] == numbers(0, 600)[number::keys]


async def _has_rows(harness: RelayHarness, rows: int) -> bool:
    return await harness.depth() == rows


async def _has_metric(harness: RelayHarness, name: str, value: float) -> bool:
    return harness.metric(name) == value


async def test_relay_discards_a_message_that_is_too_large(
    harness: RelayHarness,
) -> None:
    await harness.record("a", b"x" * (MAX_VALUE_BYTES + 1), "b")
    async with harness.running():
        await harness.until_empty()
    assert await harness.published() == ["a", "b"]
    assert harness.metric("discarded_total") == 1


async def test_relay_finds_messages_of_another_process_without_wakeup(harness: RelayHarness) -> None:
    async with harness.running():
        await asyncio.sleep(0)
        harness.wakeup = asyncio.Event()  # from now on a record does not wake the relay
        await harness.record("a")
        await harness.until_empty()
    assert await harness.published() == ["a"]


async def test_depth_is_measured_without_a_relay(harness: RelayHarness) -> None:
    await harness.record(*numbers(0, 12))
    async with running_task(harness.monitor_depth(timedelta(seconds=70))):
        await eventually(lambda: _is_measured(harness, 12))
    assert 69 < harness.metric("oldest_seconds") < 130


async def _is_measured(harness: RelayHarness, rows: int) -> bool:
    return harness.metric("rows") == rows
