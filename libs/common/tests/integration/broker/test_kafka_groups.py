"""What becomes of commits when the partitions of a group change hands. The embedded log never shares a topic out."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress

import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import PartitionsLost, Subscription
from safevideo_common.broker.types import TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import PARTITIONS, after, fetch_exactly, message, publish_all
from safevideo_testkit.eventually import DEADLINE_SECONDS


async def test_a_commit_after_a_rebalance_spares_what_now_belongs_to_another_member(
    kafka_log: KafkaBroker, kafka_topic: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_all(kafka_log, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_log.subscribe(group, [kafka_topic], "first") as first:
        everything = after(await fetch_exactly(first, 40))
        async with kafka_log.subscribe(group, [kafka_topic], "second") as second:
            kept, lost = await _shared_out(first, second)
            await first.commit(everything)
            assert set((await first.lag()).values()) == {0}
            assert await second.lag() == {partition: everything[partition] for partition in lost}
            assert kept | lost == everything.keys()


async def test_a_partition_that_was_lost_and_won_again_is_not_committed_backwards(
    kafka_log: KafkaBroker, kafka_topic: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_all(kafka_log, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_log.subscribe(group, [kafka_topic], "first") as first:
        late = dict.fromkeys(after(await fetch_exactly(first, 40)), 1)
        async with kafka_log.subscribe(group, [kafka_topic], "second") as second:
            _, lost = await _shared_out(first, second)
            count = sum((await second.lag()).values())
            await second.commit(after(await fetch_exactly(second, count)))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(await first.lag()) < PARTITIONS:
                await first.fetch(max_records=1, timeout=0.2)
        await first.commit(late)
        lag = await first.lag()
        assert {lag[partition] for partition in lost} == {0}


async def test_a_rebalance_waits_for_what_is_in_hand_and_ends_the_claim_after_it(
    kafka_log: KafkaBroker, kafka_topic: str
) -> None:
    group = f"{kafka_topic}-group"
    await publish_all(kafka_log, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_log.subscribe(group, [kafka_topic], "first") as first:
        everything = after(await fetch_exactly(first, 40))
        with first.hold() as claim:
            async with kafka_log.subscribe(group, [kafka_topic], "second") as second:
                claim.check()  # the second member is there, and has nothing yet
                assert not await second.lag()
                await first.commit(everything)
        async with asyncio.timeout(DEADLINE_SECONDS), kafka_log.subscribe(group, [kafka_topic], "second") as second:
            await _shared_out(first, second)
            assert not any((await second.lag()).values())
        with pytest.raises(PartitionsLost):
            claim.check()


async def test_what_is_held_for_too_long_is_lost(kafka_log: KafkaBroker, kafka_topic: str) -> None:
    group = f"{kafka_topic}-group"
    await publish_all(kafka_log, [message(kafka_topic, f"sg_{number}") for number in range(40)])
    async with kafka_log.subscribe(group, [kafka_topic], "first") as first:
        await fetch_exactly(first, 40)
        with first.hold() as claim:
            async with kafka_log.subscribe(group, [kafka_topic], "second") as second:
                await _shared_out(first, second)
            with pytest.raises(PartitionsLost):
                claim.check()


async def _shared_out(
    first: Subscription, second: Subscription
) -> tuple[AbstractSet[TopicPartition], AbstractSet[TopicPartition]]:
    """The partitions of each, once both have some. Neither has fetched anything since."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with suppress(BrokerUnavailable):  # in the middle of a rebalance nobody may answer
                ours, theirs = await first.lag(), await second.lag()
                if ours and theirs and not ours.keys() & theirs.keys():
                    return ours.keys(), theirs.keys()
            await asyncio.sleep(0.1)
