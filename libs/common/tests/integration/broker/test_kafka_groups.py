"""Commits and claims of a Kafka group while partitions change their owner. The embedded broker has no rebalance."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress

import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import PartitionsLost, Subscription
from safevideo_common.broker.types import TopicPartition, next_offsets
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import PARTITIONS, fetch_exactly, message, publish_in_order
from safevideo_testkit.chaos.lag_probe import open_groups
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.coordinator_proxy import open_coordinator_proxy


async def test_commit_after_a_rebalance_ignores_partitions_of_another_member(
    kafka_broker: KafkaBroker, kafka_topic: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_broker.subscribe(group, [kafka_topic], "first") as first:
        everything = next_offsets(await fetch_exactly(first, 40))
        async with kafka_broker.subscribe(group, [kafka_topic], "second") as second:
            owned, revoked = await _assigned_to_both(first, second)
            await first.commit(everything)
            assert set((await first.lag()).values()) == {0}
            assert await second.lag() == {partition: everything[partition] for partition in revoked}
            assert owned | revoked == everything.keys()


async def test_commit_does_not_move_a_regained_partition_backwards(kafka_broker: KafkaBroker, kafka_topic: str) -> None:
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_broker.subscribe(group, [kafka_topic], "first") as first:
        late = dict.fromkeys(next_offsets(await fetch_exactly(first, 40)), 1)
        async with kafka_broker.subscribe(group, [kafka_topic], "second") as second:
            _, revoked = await _assigned_to_both(first, second)
            count = sum((await second.lag()).values())
            await second.commit(next_offsets(await fetch_exactly(second, count)))
        async with asyncio.timeout(60):
            while len(await first.lag()) < PARTITIONS:
                await first.fetch(max_records=1, timeout=0.2)
        await first.commit(late)
        lag = await first.lag()
        assert {lag[partition] for partition in revoked} == {0}


async def test_member_that_asks_an_outdated_coordinator_asks_the_new_one_and_reads_nothing_again(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    """Without `OffsetFetchRequest` of our own, the member took this for "nothing is committed" and read all again."""
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_broker.subscribe(group, [kafka_topic], "first") as first:
        await first.commit(next_offsets(await fetch_exactly(first, 40)))
    async with open_coordinator_proxy(kafka_bootstrap_servers) as (servers, proxy):
        proxy.refuse_next(2)
        async with KafkaBroker(servers).subscribe(group, [kafka_topic], "second") as second:
            await publish_in_order(kafka_broker, [message(kafka_topic, "sg_0", "new")])
            assert [each.value for each in await fetch_exactly(second, 1)] == [b"new"]
        assert proxy.refused == 2


async def test_commit_does_not_move_a_partition_backwards_when_an_outdated_coordinator_is_asked(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with open_coordinator_proxy(kafka_bootstrap_servers) as (servers, proxy):
        async with KafkaBroker(servers).subscribe(group, [kafka_topic], "first") as first:
            everything = next_offsets(await fetch_exactly(first, 40))
            await first.commit(everything)
        async with KafkaBroker(servers).subscribe(group, [kafka_topic], "second") as second:
            await publish_in_order(kafka_broker, [message(kafka_topic, "sg_0", "new")])
            await fetch_exactly(second, 1)
            proxy.refuse_next(1)
            await second.commit(dict.fromkeys(everything, 1))
            assert proxy.refused == 1
            assert sum((await second.lag()).values()) == 1


async def test_rebalance_waits_for_the_batch_in_flight_and_then_ends_its_claim(
    kafka_broker: KafkaBroker, kafka_topic: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_broker.subscribe(group, [kafka_topic], "first") as first:
        everything = next_offsets(await fetch_exactly(first, 40))
        with first.processing() as claim:
            async with kafka_broker.subscribe(group, [kafka_topic], "second") as second:
                claim.check()  # the second member has joined, and owns nothing yet
                assert not await second.lag()
                await first.commit(everything)
        async with asyncio.timeout(60), kafka_broker.subscribe(group, [kafka_topic], "second") as second:
            await _assigned_to_both(first, second)
            assert not any((await second.lag()).values())
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_member_that_stops_while_it_waits_to_join_leaves_the_group(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    """Otherwise the others would get no record until its session ends: they would wait for it to join."""
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with (
        open_groups(kafka_bootstrap_servers) as groups,
        kafka_broker.subscribe(group, [kafka_topic], "first") as first,
    ):

        async def both_are_members() -> bool:
            return await groups.members(group) == 2

        async def one_is_a_member() -> bool:
            return await groups.members(group) == 1

        await fetch_exactly(first, 40)
        with first.processing():
            async with kafka_broker.subscribe(group, [kafka_topic], "second"):
                await eventually(both_are_members)
            await eventually(one_is_a_member, 10.0)  # its session ends after 15 seconds


async def test_claim_ends_when_a_batch_is_in_flight_too_long(kafka_broker: KafkaBroker, kafka_topic: str) -> None:
    group = f"{kafka_topic}-group"
    await publish_in_order(kafka_broker, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_broker.subscribe(group, [kafka_topic], "first") as first:
        await fetch_exactly(first, 40)
        with first.processing() as claim:
            async with kafka_broker.subscribe(group, [kafka_topic], "second") as second:
                await _assigned_to_both(first, second)
            with pytest.raises(PartitionsLost):
                claim.check()


async def _assigned_to_both(
    first: Subscription, second: Subscription
) -> tuple[AbstractSet[TopicPartition], AbstractSet[TopicPartition]]:
    """Return the partitions of each member, once both have some. Neither has fetched since."""
    async with asyncio.timeout(60):
        while True:
            with suppress(BrokerUnavailable):  # during a rebalance there may be no answer
                ours, theirs = await first.lag(), await second.lag()
                if ours and theirs and not ours.keys() & theirs.keys():
                    return ours.keys(), theirs.keys()
            await asyncio.sleep(0.1)
