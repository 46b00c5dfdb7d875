"""What `port.py` promises, on both logs."""

import asyncio
import time

import pytest

from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import Broker, PartitionShard
from safevideo_common.broker.types import (
    MAX_RECORD_BYTES,
    MAX_VALUE_BYTES,
    Message,
    Topic,
    TopicState,
)
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_testkit.broker_helpers import (
    DAY_MS,
    PARTITIONS,
    after,
    by_key,
    fetch_exactly,
    message,
    publish_all,
    read_by_key,
    values,
)
from safevideo_testkit.eventually import DEADLINE_SECONDS


async def test_a_key_goes_to_the_partition_that_every_kafka_client_would_choose(log: Broker, topic: str) -> None:
    keys = [f"sg_{number}" for number in range(50)]
    places = await publish_all(log, [message(topic, key) for key in keys])
    assert [place.partition for place, _ in places] == [partition_of(key.encode(), PARTITIONS) for key in keys]


async def test_offsets_begin_at_zero_and_have_no_gaps(log: Broker, topic: str) -> None:
    places = await publish_all(log, [message(topic, "one key") for _ in range(20)])
    assert [offset for _, offset in places] == list(range(20))


async def test_messages_published_at_once_get_different_offsets_and_keep_their_order(log: Broker, topic: str) -> None:
    async with log.publisher("test") as publisher, log.reader("test") as reader:
        sent = [publisher.publish(message(topic, "one key", str(number))) for number in range(300)]
        places = await asyncio.gather(*sent)
        records = await reader.read(places[0][0], 0, 300)
    assert [offset for _, offset in places] == list(range(300))
    assert [record.value for record in records] == [str(number).encode() for number in range(300)]


@pytest.mark.parametrize("value", [b"", b"\x00\xff not UTF-8", b"x" * MAX_VALUE_BYTES], ids=["empty", "bytes", "1 MiB"])
async def test_a_record_is_what_was_published(log: Broker, topic: str, value: bytes) -> None:
    headers = (("ce_id", b"evt_1"), ("ce_id", b"twice"), ("empty", b""), ("binary", b"\x00\xff"))
    before = time.time_ns() // 1_000_000
    ((partition, offset),) = await publish_all(log, [Message(topic, b"\xffkey", value, headers)])
    async with log.reader("test") as reader:
        (record,) = await reader.read(partition, offset, 10)
    assert (record.key, record.value, record.headers) == (b"\xffkey", value, headers)
    assert (record.topic, record.partition, record.offset) == (topic, partition.partition, 0)
    assert before <= record.timestamp_ms <= time.time_ns() // 1_000_000


async def test_a_value_over_the_limit_is_refused_and_the_publisher_goes_on(log: Broker, topic: str) -> None:
    async with log.publisher("test") as publisher:
        with pytest.raises(PayloadTooLarge):
            await publisher.publish(message(topic, "key", b"x" * (MAX_VALUE_BYTES + 1)))
        assert await publisher.publish(message(topic, "key"))


async def test_a_publisher_waits_as_long_as_it_was_told_to(log: Broker, topic: str) -> None:
    burst = [message(topic, f"sg_{number}", b"x" * 500_000) for number in range(40)]
    async with log.publisher("patient", acknowledged_within=60.0) as patient:
        await asyncio.gather(*(patient.publish(each) for each in burst))
    async with log.publisher("hasty", acknowledged_within=0.001) as hasty:
        answers = await asyncio.gather(*(hasty.publish(each) for each in burst), return_exceptions=True)
    assert BrokerUnavailable in {type(answer) for answer in answers}


async def test_a_round_is_published_in_order_whatever_its_topics_and_keys(log: Broker, topic: str) -> None:
    other = f"{topic}-other"
    await log.create_topics([Topic(other, 1, DAY_MS)])
    sent = [message(topic, f"sg_{number % 7}", str(number)) for number in range(700)]
    sent += [message(other, "key", str(number)) for number in range(300)]
    async with log.publisher("test") as publisher:
        await publisher.publish_all(sent[:500])
        await publisher.publish_all(sent[500:])
        await publisher.publish_all([])
    assert await read_by_key(log, topic) == by_key(sent[:700])
    assert await read_by_key(log, other) == by_key(sent[700:])


async def test_a_round_with_a_value_over_the_limit_is_refused_before_any_of_it_is_published(
    log: Broker, topic: str
) -> None:
    async with log.publisher("test") as publisher:
        with pytest.raises(PayloadTooLarge):
            await publisher.publish_all([message(topic, "a"), message(topic, "b", b"x" * (MAX_VALUE_BYTES + 1))])
        await publisher.publish_all([message(topic, "a", "next")])
    assert await read_by_key(log, topic) == {b"a": [b"next"]}


async def test_a_round_to_a_topic_that_does_not_exist_fails(log: Broker, topic: str) -> None:
    async with log.publisher("test") as publisher:
        with pytest.raises(BrokerUnavailable):
            await publisher.publish_all([message(topic, "a"), message(f"{topic}-missing", "b")])


async def test_rounds_that_are_given_up_and_published_again_keep_first_occurrences_in_order(
    log: Broker, topic: str
) -> None:
    rounds = [[message(topic, f"sg_{n % 5}", f"{number}.{n}") for n in range(200)] for number in range(8)]
    async with log.publisher("test") as publisher:
        for number, each in enumerate(rounds):
            giving_up = asyncio.create_task(publisher.publish_all(each))
            for _ in range(number):  # a few steps further each time
                await asyncio.sleep(0)
            giving_up.cancel()
            await asyncio.wait([giving_up])
            await publisher.publish_all(each)
    found = await read_by_key(log, topic)
    firsts = {key: list(dict.fromkeys(those)) for key, those in found.items()}
    assert firsts == by_key(each for some in rounds for each in some)


async def test_a_new_group_starts_at_the_beginning(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, f"sg_{number}", str(number)) for number in range(10)])
    async with log.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 10)) == sorted(str(number).encode() for number in range(10))


async def test_records_come_in_order_within_a_partition_and_never_more_than_asked_for(
    log: Broker, topic: str, group: str
) -> None:
    await publish_all(log, [message(topic, f"sg_{number % 7}", str(number)) for number in range(100)])
    async with log.subscribe(group, [topic], "test") as subscription:
        records = [record for _ in range(10) for record in await fetch_exactly(subscription, 10)]
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert len(records) == 100


async def test_a_fetch_wakes_up_for_a_record_that_is_published_while_it_waits(
    log: Broker, topic: str, group: str
) -> None:
    async with log.subscribe(group, [topic], "test") as subscription, log.publisher("test") as publisher:
        fetching = asyncio.create_task(fetch_exactly(subscription, 1))
        await publisher.publish(message(topic, "key", "news"))
        assert values(await fetching) == [b"news"]


async def test_a_fetch_that_finds_nothing_is_empty_after_its_timeout(log: Broker, topic: str, group: str) -> None:
    async with log.subscribe(group, [topic], "test") as subscription:
        assert list(await subscription.fetch(max_records=10, timeout=0.05)) == []


async def test_several_topics_are_read_by_one_subscription(log: Broker, topic: str, group: str) -> None:
    other = f"{topic}-other"
    await log.create_topics([Topic(other, 2, DAY_MS)])
    await publish_all(log, [message(topic, "key", "a"), message(other, "key", "b")])
    async with log.subscribe(group, [topic, other], "test") as subscription:
        assert values(await fetch_exactly(subscription, 2)) == [b"a", b"b"]


async def test_a_group_resumes_after_what_it_committed(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "one key", str(number)) for number in range(10)])
    async with log.subscribe(group, [topic], "test") as subscription:
        await subscription.commit(after(await fetch_exactly(subscription, 4)))
        await fetch_exactly(subscription, 3)  # and dies before it has committed these
    async with log.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]


async def test_groups_do_not_see_each_other(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "key", "for both")])
    for each in (group, f"{group}-other"):
        async with log.subscribe(each, [topic], "test") as subscription:
            records = await fetch_exactly(subscription, 1)
            await subscription.commit(after(records))
            assert values(records) == [b"for both"]


async def test_a_commit_never_moves_a_group_backwards(log: Broker, topic: str, group: str) -> None:
    ((partition, _), *_) = await publish_all(log, [message(topic, "one key", str(number)) for number in range(5)])
    async with log.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 5)
        await subscription.commit({partition: 4})
        await subscription.commit({partition: 2})
    async with log.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 1)) == [b"4"]


async def test_a_commit_of_a_partition_that_is_not_owned_is_passed_over(log: Broker, topic: str, group: str) -> None:
    other = f"{topic}-other"
    await log.create_topics([Topic(other, 1, DAY_MS)])
    ((partition, _), (foreign, _)) = await publish_all(log, [message(topic, "key"), message(other, "key")])
    async with log.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        await subscription.commit({partition: 1, foreign: 1})
    async with log.subscribe(group, [topic, other], "test") as subscription:
        assert [record.topic for record in await fetch_exactly(subscription, 1)] == [other]


async def test_a_second_member_takes_over_after_the_first_has_gone(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, f"sg_{number}", str(number)) for number in range(20)])
    async with log.subscribe(group, [topic], "second") as second:
        async with log.subscribe(group, [topic], "first") as first, asyncio.timeout(DEADLINE_SECONDS):
            seen: set[bytes] = set()
            while len(seen) < 20:  # who owns what is the log's business: together they read everything
                for member in (first, second):
                    records = await member.fetch(max_records=100, timeout=0.2)
                    seen |= {record.value for record in records}
        await publish_all(log, [message(topic, f"sg_{number}", f"late {number}") for number in range(20)])
        late: set[bytes] = set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(late) < 20:
                records = await second.fetch(max_records=100, timeout=1.0)
                late |= {record.value for record in records if record.value.startswith(b"late")}


async def test_shares_are_read_by_themselves_and_are_everything_together(log: Broker, topic: str, group: str) -> None:
    sent = await publish_all(log, [message(topic, f"sg_{number}", str(number)) for number in range(20)])
    even = [place for place, _ in sent if place.partition % 2 == 0]
    async with log.subscribe(group, [topic], "test") as subscription:
        records = await fetch_exactly(subscription, len(even), PartitionShard(0, 2))
        assert {record.partition % 2 for record in records} == {0}
        assert list(await subscription.fetch(max_records=1, timeout=0.05, share=PartitionShard(0, 2))) == []
        records += await fetch_exactly(subscription, 20 - len(even), PartitionShard(1, 2))
        assert len(set(values(records))) == 20


async def test_shares_are_read_at_the_same_time(log: Broker, topic: str, group: str) -> None:
    async with log.subscribe(group, [topic], "test") as subscription:
        waiting = [asyncio.create_task(fetch_exactly(subscription, 5, PartitionShard(index, 2))) for index in (0, 1)]
        await publish_all(log, [message(topic, key) for key in _keys_of_each_half(5)])
        odd_and_even = await asyncio.gather(*waiting)
        assert [{record.partition % 2 for record in records} for records in odd_and_even] == [{0}, {1}]


async def test_a_share_without_partitions_gets_nothing(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "sg_1")])
    async with log.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        assert list(await subscription.fetch(max_records=1, timeout=0.05, share=PartitionShard(PARTITIONS, 100))) == []


async def test_a_claim_holds_while_nobody_else_is_there(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "sg_1")])
    async with log.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        with subscription.hold() as claim:
            claim.check()


async def test_rewinding_fetches_again_what_was_not_committed(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "one key", str(number)) for number in range(6)])
    async with log.subscribe(group, [topic], "test") as subscription:
        await subscription.commit(after(await fetch_exactly(subscription, 2)))
        await fetch_exactly(subscription, 3)
        subscription.rewind()
        assert values(await fetch_exactly(subscription, 4)) == [b"2", b"3", b"4", b"5"]


async def test_rewinding_without_a_commit_goes_back_to_the_beginning(log: Broker, topic: str, group: str) -> None:
    await publish_all(log, [message(topic, "one key", str(number)) for number in range(3)])
    async with log.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 3)
        subscription.rewind()
        assert values(await fetch_exactly(subscription, 3)) == [b"0", b"1", b"2"]


async def test_lag_is_what_the_group_has_not_committed(log: Broker, topic: str, group: str) -> None:
    ((partition, _), *_) = await publish_all(log, [message(topic, "one key") for _ in range(5)])
    async with log.subscribe(group, [topic], "test") as subscription:
        records = await fetch_exactly(subscription, 5)
        assert sum((await subscription.lag()).values()) == 5
        await subscription.commit(after(records[:3]))
        lag = await subscription.lag()
        assert lag[partition] == 2
        assert sum(lag.values()) == 2
        assert len(lag) == PARTITIONS


async def test_creating_a_topic_again_changes_nothing(log: Broker, topic: str) -> None:
    await publish_all(log, [message(topic, "key")])
    await log.create_topics([Topic(topic, PARTITIONS * 2, DAY_MS * 2)])
    async with log.reader("test") as reader:
        ends = await reader.end_offsets(topic)
    assert len(ends) == PARTITIONS
    assert sum(ends.values()) == 1
    assert await log.topic_states([topic, f"{topic}-missing"]) == [
        TopicState(topic, PARTITIONS, 1, DAY_MS, MAX_RECORD_BYTES, is_compacted=False)
    ]
    assert await log.topic_states([f"{topic}-missing"]) == [], "asking creates nothing"


async def test_a_topic_that_does_not_exist_takes_nothing_and_has_nothing_to_read(log: Broker, topic: str) -> None:
    async with log.publisher("test") as publisher, log.reader("test") as reader:
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(message(f"{topic}-missing", "key"))
        with pytest.raises(BrokerUnavailable):
            await reader.end_offsets(f"{topic}-missing")
        assert await publisher.publish(message(topic, "key"))


async def test_a_probe_returns_when_the_log_answers(log: Broker) -> None:
    await log.probe()


def _keys_of_each_half(count: int) -> list[str]:
    """Keys of which `count` go to even partitions and `count` to odd ones."""
    found: dict[int, list[str]] = {0: [], 1: []}
    for number in range(1000):
        key = f"sg_{number}"
        found[partition_of(key.encode(), PARTITIONS) % 2].append(key)
    return [key for keys in found.values() for key in keys[:count]]
