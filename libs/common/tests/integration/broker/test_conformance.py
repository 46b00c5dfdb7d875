"""The guarantees of `port.py`, on both adapters."""

import asyncio
import time

import pytest

from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import UNKNOWN_PARTITION, BatchIncomplete, Broker, PartitionShard
from safevideo_common.broker.types import (
    MAX_RECORD_BYTES,
    MAX_VALUE_BYTES,
    Message,
    Topic,
    TopicState,
    next_offsets,
)
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_testkit.broker_helpers import (
    DAY_MS,
    PARTITIONS,
    answers_a_probe,
    by_key,
    fetch_exactly,
    message,
    messages_of_one_key,
    publish_in_order,
    publish_when_available,
    read_by_key,
    values,
)
from safevideo_testkit.eventually import eventually


async def test_producer_chooses_the_partition_of_every_kafka_client(broker: Broker, topic: str) -> None:
    keys = [f"sg_{number}" for number in range(50)]
    positions = await publish_in_order(broker, [message(topic, key) for key in keys])
    expected = [partition_of(key.encode(), PARTITIONS) for key in keys]
    assert [partition.partition for partition, _ in positions] == expected


async def test_offsets_start_at_zero_without_gaps(broker: Broker, topic: str) -> None:
    positions = await publish_in_order(broker, messages_of_one_key(topic, 20))
    assert [offset for _, offset in positions] == list(range(20))


async def test_concurrent_publishes_keep_their_order(broker: Broker, topic: str) -> None:
    async with broker.producer("test") as producer, broker.reader("test") as reader:
        sent = [producer.publish(message(topic, "one key", str(number))) for number in range(300)]
        positions = await asyncio.gather(*sent)
        records = await reader.read(positions[0][0], 0, 300)
    assert [offset for _, offset in positions] == list(range(300))
    assert [record.value for record in records] == [str(number).encode() for number in range(300)]


@pytest.mark.parametrize("value", [b"", b"\x00\xff not UTF-8", b"x" * MAX_VALUE_BYTES], ids=["empty", "bytes", "1 MiB"])
async def test_record_equals_the_published_message(broker: Broker, topic: str, value: bytes) -> None:
    headers = (("ce_id", b"evt_1"), ("ce_id", b"twice"), ("empty", b""), ("binary", b"\x00\xff"))
    before = time.time_ns() // 1_000_000
    ((partition, offset),) = await publish_in_order(broker, [Message(topic, b"\xffkey", value, headers)])
    async with broker.reader("test") as reader:
        (record,) = await reader.read(partition, offset, 10)
    assert (record.key, record.value, record.headers) == (b"\xffkey", value, headers)
    assert (record.topic, record.partition, record.offset) == (topic, partition.partition, 0)
    assert before <= record.timestamp_ms <= time.time_ns() // 1_000_000


async def test_producer_refuses_a_value_over_the_limit_and_continues(broker: Broker, topic: str) -> None:
    async with broker.producer("test") as producer:
        with pytest.raises(PayloadTooLarge):
            await producer.publish(message(topic, "key", b"x" * (MAX_VALUE_BYTES + 1)))
        assert await producer.publish(message(topic, "key"))


async def test_producer_waits_until_its_deadline(broker: Broker, topic: str) -> None:
    burst = [message(topic, f"sg_{number}", b"x" * 500_000) for number in range(40)]
    async with broker.producer("patient", acknowledged_within=60.0) as patient:
        await asyncio.gather(*(patient.publish(each) for each in burst))
    async with broker.producer("hasty", acknowledged_within=0.001) as hasty:
        answers = await asyncio.gather(*(hasty.publish(each) for each in burst), return_exceptions=True)
    assert BrokerUnavailable in {type(answer) for answer in answers}


async def test_publish_batch_keeps_the_order_across_topics_and_keys(broker: Broker, topic: str) -> None:
    other = f"{topic}-other"
    await broker.create_topics([Topic(other, 1, DAY_MS)])
    sent = [message(topic, f"sg_{number % 7}", str(number)) for number in range(700)]
    sent += [message(other, "key", str(number)) for number in range(300)]
    async with broker.producer("test") as producer:
        await producer.publish_batch(sent[:500])
        await producer.publish_batch(sent[500:])
        await producer.publish_batch([])
    assert await read_by_key(broker, topic) == by_key(sent[:700])
    assert await read_by_key(broker, other) == by_key(sent[700:])


async def test_publish_batch_publishes_nothing_if_a_value_is_over_the_limit(broker: Broker, topic: str) -> None:
    async with broker.producer("test") as producer:
        with pytest.raises(PayloadTooLarge):
            await producer.publish_batch([message(topic, "a"), message(topic, "b", b"x" * (MAX_VALUE_BYTES + 1))])
        await producer.publish_batch([message(topic, "a", "next")])
    assert await read_by_key(broker, topic) == {b"a": [b"next"]}


async def test_publish_batch_fails_only_the_messages_of_a_missing_topic(broker: Broker, topic: str) -> None:
    first = message(topic, "first")
    batch = [message(topic, "a"), message(f"{topic}-missing", "b"), message(topic, "c")]
    async with broker.producer("test") as producer:
        await publish_when_available(producer, first)  # to connect may take longer than a batch may
        with pytest.raises(BatchIncomplete) as incomplete:
            await producer.publish_batch(batch)
        assert [*incomplete.value.failures] == [1]
        unknown = producer.partition_of(batch[1])
    assert unknown.partition == UNKNOWN_PARTITION
    assert await read_by_key(broker, topic) == by_key([first, batch[0], batch[2]])


async def test_partition_of_tells_where_a_message_goes(broker: Broker, topic: str) -> None:
    messages = [message(topic, f"sg_{number}") for number in range(30)]
    async with broker.producer("test") as producer:
        await producer.publish(message(topic, "first"))
        expected = [producer.partition_of(each) for each in messages]
        assert expected == [partition for partition, _ in [await producer.publish(each) for each in messages]]


async def test_publish_batch_keeps_first_copies_in_order_after_cancellation_and_retry(
    broker: Broker, topic: str
) -> None:
    batches = [[message(topic, f"sg_{n % 5}", f"{number}.{n}") for n in range(200)] for number in range(8)]
    async with broker.producer("test") as producer:
        for number, batch in enumerate(batches):
            cancelled = asyncio.create_task(producer.publish_batch(batch))
            for _ in range(number):  # a few steps further each time
                await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            await producer.publish_batch(batch)
    found = await read_by_key(broker, topic)
    firsts = {key: list(dict.fromkeys(those)) for key, those in found.items()}
    assert firsts == by_key(each for batch in batches for each in batch)


async def test_new_group_starts_at_the_oldest_record(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number}", str(number)) for number in range(10)])
    async with broker.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 10)) == sorted(str(number).encode() for number in range(10))


async def test_fetch_returns_at_most_max_records_in_partition_order(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number % 7}", str(number)) for number in range(100)])
    async with broker.subscribe(group, [topic], "test") as subscription:
        records = [record for _ in range(10) for record in await fetch_exactly(subscription, 10)]
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert len(records) == 100


async def test_fetch_returns_a_record_that_is_published_while_it_waits(broker: Broker, topic: str, group: str) -> None:
    async with broker.subscribe(group, [topic], "test") as subscription, broker.producer("test") as producer:
        fetching = asyncio.create_task(fetch_exactly(subscription, 1))
        await producer.publish(message(topic, "key", "news"))
        assert values(await fetching) == [b"news"]


async def test_fetch_returns_nothing_after_its_timeout(broker: Broker, topic: str, group: str) -> None:
    async with broker.subscribe(group, [topic], "test") as subscription:
        assert list(await subscription.fetch(max_records=10, timeout=0.05)) == []


async def test_subscription_reads_several_topics(broker: Broker, topic: str, group: str) -> None:
    other = f"{topic}-other"
    await broker.create_topics([Topic(other, 2, DAY_MS)])
    await publish_in_order(broker, [message(topic, "key", "a"), message(other, "key", "b")])
    async with broker.subscribe(group, [topic, other], "test") as subscription:
        assert values(await fetch_exactly(subscription, 2)) == [b"a", b"b"]


async def test_group_resumes_after_its_commit(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, messages_of_one_key(topic, 10))
    async with broker.subscribe(group, [topic], "test") as subscription:
        await subscription.commit(next_offsets(await fetch_exactly(subscription, 4)))
        await fetch_exactly(subscription, 3)  # and dies before it has committed these
    async with broker.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]


async def test_groups_are_independent(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, "key", "for both")])
    for each in (group, f"{group}-other"):
        async with broker.subscribe(each, [topic], "test") as subscription:
            records = await fetch_exactly(subscription, 1)
            await subscription.commit(next_offsets(records))
            assert values(records) == [b"for both"]


async def test_commit_never_moves_a_group_backwards(broker: Broker, topic: str, group: str) -> None:
    ((partition, _), *_) = await publish_in_order(broker, messages_of_one_key(topic, 5))
    async with broker.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 5)
        await subscription.commit({partition: 4})
        await subscription.commit({partition: 2})
    async with broker.subscribe(group, [topic], "test") as subscription:
        assert values(await fetch_exactly(subscription, 1)) == [b"4"]


async def test_commit_ignores_a_partition_that_is_not_owned(broker: Broker, topic: str, group: str) -> None:
    other = f"{topic}-other"
    await broker.create_topics([Topic(other, 1, DAY_MS)])
    ((partition, _), (foreign, _)) = await publish_in_order(broker, [message(topic, "key"), message(other, "key")])
    async with broker.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        await subscription.commit({partition: 1, foreign: 1})
    async with broker.subscribe(group, [topic, other], "test") as subscription:
        assert [record.topic for record in await fetch_exactly(subscription, 1)] == [other]


async def test_second_member_takes_over_after_the_first_leaves(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, f"sg_{number}", str(number)) for number in range(20)])
    async with broker.subscribe(group, [topic], "second") as second:
        async with broker.subscribe(group, [topic], "first") as first, asyncio.timeout(60):
            seen: set[bytes] = set()
            while len(seen) < 20:  # the broker decides who owns what: together they read everything
                for member in (first, second):
                    records = await member.fetch(max_records=100, timeout=0.2)
                    seen |= {record.value for record in records}
        await publish_in_order(broker, [message(topic, f"sg_{number}", f"late {number}") for number in range(20)])
        late: set[bytes] = set()
        async with asyncio.timeout(60):
            while len(late) < 20:
                records = await second.fetch(max_records=100, timeout=1.0)
                late |= {record.value for record in records if record.value.startswith(b"late")}


async def test_shards_are_fetched_independently_and_cover_everything(broker: Broker, topic: str, group: str) -> None:
    sent = await publish_in_order(broker, [message(topic, f"sg_{number}", str(number)) for number in range(20)])
    even = [partition for partition, _ in sent if partition.partition % 2 == 0]
    async with broker.subscribe(group, [topic], "test") as subscription:
        records = await fetch_exactly(subscription, len(even), PartitionShard(0, 2))
        assert {record.partition % 2 for record in records} == {0}
        assert list(await subscription.fetch(max_records=1, timeout=0.05, shard=PartitionShard(0, 2))) == []
        records += await fetch_exactly(subscription, 20 - len(even), PartitionShard(1, 2))
        assert len(set(values(records))) == 20


async def test_shards_are_fetched_at_the_same_time(broker: Broker, topic: str, group: str) -> None:
    async with broker.subscribe(group, [topic], "test") as subscription:
        waiting = [asyncio.create_task(fetch_exactly(subscription, 5, PartitionShard(index, 2))) for index in (0, 1)]
        await publish_in_order(broker, [message(topic, key) for key in _keys_of_each_half(5)])
        odd_and_even = await asyncio.gather(*waiting)
        assert [{record.partition % 2 for record in records} for records in odd_and_even] == [{0}, {1}]


async def test_shard_without_partitions_returns_nothing(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, "sg_1")])
    async with broker.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        assert list(await subscription.fetch(max_records=1, timeout=0.05, shard=PartitionShard(PARTITIONS, 100))) == []


async def test_claim_stays_valid_without_other_members(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, [message(topic, "sg_1")])
    async with broker.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 1)
        with subscription.processing() as claim:
            claim.check()


async def test_seek_to_committed_fetches_uncommitted_records_again(broker: Broker, topic: str, group: str) -> None:
    await publish_in_order(broker, messages_of_one_key(topic, 6))
    async with broker.subscribe(group, [topic], "test") as subscription:
        await subscription.commit(next_offsets(await fetch_exactly(subscription, 2)))
        await fetch_exactly(subscription, 3)
        subscription.seek_to_committed()
        assert values(await fetch_exactly(subscription, 4)) == [b"2", b"3", b"4", b"5"]


async def test_seek_to_committed_without_a_commit_starts_at_the_oldest_record(
    broker: Broker, topic: str, group: str
) -> None:
    await publish_in_order(broker, messages_of_one_key(topic, 3))
    async with broker.subscribe(group, [topic], "test") as subscription:
        await fetch_exactly(subscription, 3)
        subscription.seek_to_committed()
        assert values(await fetch_exactly(subscription, 3)) == [b"0", b"1", b"2"]


async def test_lag_counts_uncommitted_records(broker: Broker, topic: str, group: str) -> None:
    ((partition, _), *_) = await publish_in_order(broker, messages_of_one_key(topic, 5))
    async with broker.subscribe(group, [topic], "test") as subscription:
        records = await fetch_exactly(subscription, 5)
        assert sum((await subscription.lag()).values()) == 5
        await subscription.commit(next_offsets(records[:3]))
        lag = await subscription.lag()
        assert lag[partition] == 2
        assert sum(lag.values()) == 2
        assert len(lag) == PARTITIONS


async def test_create_topics_does_not_change_an_existing_topic(broker: Broker, topic: str) -> None:
    await publish_in_order(broker, [message(topic, "key")])
    await broker.create_topics([Topic(topic, PARTITIONS * 2, DAY_MS * 2)])
    async with broker.reader("test") as reader:
        ends = await reader.end_offsets(topic)
    assert len(ends) == PARTITIONS
    assert sum(ends.values()) == 1
    assert await broker.topic_states([topic, f"{topic}-missing"]) == [
        TopicState(
            topic,
            PARTITIONS,
            replicas=1,
            retention_ms=DAY_MS,
            max_record_bytes=MAX_RECORD_BYTES,
            is_compacted=False,
            min_in_sync_replicas=1,
            allows_unclean_election=False,
            brokers=1,
        )
    ]
    assert await broker.topic_states([f"{topic}-missing"]) == [], "topic_states creates no topic"


async def test_missing_topic_can_be_neither_published_to_nor_read(broker: Broker, topic: str) -> None:
    async with broker.producer("test") as producer, broker.reader("test") as reader:
        with pytest.raises(BrokerUnavailable):
            await producer.publish(message(f"{topic}-missing", "key"))
        with pytest.raises(BrokerUnavailable):
            await reader.end_offsets(f"{topic}-missing")
        assert await producer.publish(message(topic, "key"))


async def test_probe_returns_if_the_broker_answers(broker: Broker) -> None:
    await eventually(lambda: answers_a_probe(broker))


def _keys_of_each_half(count: int) -> list[str]:
    """Keys of which `count` go to even partitions and `count` to odd ones."""
    found: dict[int, list[str]] = {0: [], 1: []}
    for number in range(1000):
        key = f"sg_{number}"
        found[partition_of(key.encode(), PARTITIONS) % 2].append(key)
    return [key for keys in found.values() for key in keys[:count]]
