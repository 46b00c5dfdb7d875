"""Records on a real Kafka that no stock client writes. Nothing in a record keeps a reader from the next one."""

import inspect
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.consumer import fetcher
from aiokafka.record import default_records
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.kafka.records import TolerantRecords
from safevideo_common.broker.types import Record, TopicPartition, next_offsets
from safevideo_common.inbox.handler import delivery_of
from safevideo_testkit.broker_helpers import fetch_exactly

GZIP = 1
ZSTD = 4
MICROSECONDS = 1_764_000_000_000_000
Headers = Sequence[tuple[str, bytes | None]]
Written = tuple[int, bytes | None, bytes | None, Headers]
"""Timestamp, key, value and headers."""


class RawName(str):
    """The name of a header, with the bytes that stand in the record."""

    raw: bytes

    def __new__(cls, raw: bytes) -> "RawName":
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


HOSTILE: list[Written] = [
    (1_764_000_000_000, b"key", b"before", [("ce_id", b"1")]),
    (1_764_000_000_001, b"key", b"not UTF-8", [("ce_id", b"2"), (RawName(b"\xff\xfe"), b"\x00\xff"), ("x", None)]),
    (1_764_000_000_002, None, None, [(RawName(b"\xed\xa0\x80"), None), (RawName(b""), b"")]),
    (MICROSECONDS, b"k" * 40_000, b"microseconds", [("ce_time", b"\xff")]),
    (0, b"", b"", []),
    (1_764_000_000_003, b"key", b"behind", [("ce_id", b"3")]),
]
EXPECTED = [
    (b"before", (("ce_id", b"1"),)),
    (b"not UTF-8", (("ce_id", b"2"), ("\\xff\\xfe", b"\x00\xff"), ("x", b""))),
    (b"", (("\\xed\\xa0\\x80", b""), ("", b""))),
    (b"microseconds", (("ce_time", b"\xff"),)),
    (b"", ()),
    (b"behind", (("ce_id", b"3"),)),
]


@pytest.mark.parametrize("codec", [0, GZIP], ids=["plain", "gzip"])
async def test_consumer_and_reader_get_past_hostile_records(
    kafka_broker: KafkaBroker, kafka_bootstrap_servers: str, group: str, codec: int
) -> None:
    topic = f"{group}-hostile"
    await create_topic_for_any_time(kafka_bootstrap_servers, topic)
    await write(kafka_bootstrap_servers, topic, HOSTILE, codec)
    async with kafka_broker.subscribe(group, [topic], "test") as subscription:
        fetched = await fetch_exactly(subscription, len(HOSTILE))
    async with kafka_broker.reader("test") as reader:
        read = await reader.read(TopicPartition(topic, 0), 1, 100)
    assert contents(fetched) == EXPECTED
    assert contents(read) == EXPECTED[1:]
    assert [each.timestamp_ms for each in fetched] == [timestamp for timestamp, *_ in HOSTILE]
    assert [delivery_of(each).fault is None for each in fetched] == [False] * len(HOSTILE)


async def test_consumer_and_reader_pass_a_batch_that_they_cannot_decompress(
    kafka_broker: KafkaBroker, kafka_bootstrap_servers: str, group: str
) -> None:
    topic, plain = f"{group}-zstd", HOSTILE[:1]
    await create_topic_for_any_time(kafka_bootstrap_servers, topic)
    for codec, records in ((0, plain), (ZSTD, plain * 3), (0, plain)):
        await write(kafka_bootstrap_servers, topic, records, codec)
    async with kafka_broker.subscribe(group, [topic], "test") as subscription:
        fetched = await fetch_exactly(subscription, 3)
        await subscription.commit(next_offsets(fetched[:2]))
    async with kafka_broker.subscribe(group, [topic], "test") as subscription:
        (behind,) = await fetch_exactly(subscription, 1)
    async with kafka_broker.reader("test") as reader:
        read = await reader.read(TopicPartition(topic, 0), 2, 100)
    assert [each.offset for each in fetched] == [0, 3, 4]
    assert [fetched[2], fetched[1:]] == [behind, read]
    fault = delivery_of(fetched[1]).fault
    reason = "ENVELOPE_INVALID: no worker reads zstd, which compresses the batch of offsets 1 to 3"
    assert fault is not None
    assert fault.reason == reason
    assert fetched[1].value.count(b"before") == 3


def test_aiokafka_has_the_private_parts_of_records() -> None:
    """An upgrade that renames one of them fails here, not at the first hostile record."""
    assert "MemoryRecords(part_data[-1])" in inspect.getsource(fetcher.Fetcher)
    assert {"_maybe_uncompress", "_read_msg", "next_offset", "compression_type"} <= set(
        dir(default_records._DefaultRecordBatchPy)
    )
    batch = default_records._DefaultRecordBatchPy(bytes(batch_of(HOSTILE[:1])))
    assert (batch._pos, batch._num_records) == (61, 1)


def test_records_are_those_of_aiokafka_where_it_can_read_them() -> None:
    good = [each for each in HOSTILE if not any(isinstance(name, RawName) for name, _ in each[3])]
    data = bytes(batch_of(good) + batch_of(good, GZIP))
    records, expected = TolerantRecords(data), default_records.DefaultRecordBatch(bytearray(batch_of(good)))
    plain, compressed = records.next_batch(), records.next_batch()
    assert not records.has_next()
    values = [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in expected]
    for batch in (plain, compressed):
        assert [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in batch] == values


def contents(records: Sequence[Record]) -> list[tuple[bytes, tuple[tuple[str, bytes], ...]]]:
    return [(each.value, each.headers) for each in records]


def batch_of(records: Sequence[Written], codec: int = 0) -> bytearray:
    builder = builder_of(records, codec)
    built: bytearray = builder.build()
    return built


class ZstdBuilder(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]  # who inherits from it is warned
    """A builder of batches in the format of zstd, in one raw block. It needs no library for it."""

    def _maybe_compress(self) -> bool:
        header = self.HEADER_STRUCT.size
        data = bytes(self._buffer[header:])
        last_raw_block = (len(data) << 3 | 1).to_bytes(3, "little")
        frame = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + last_raw_block + data
        self._buffer[header:] = frame
        return True


def builder_of(records: Sequence[Written], codec: int) -> _DefaultRecordBatchBuilderPy:
    builder = (ZstdBuilder if codec == ZSTD else _DefaultRecordBatchBuilderPy)(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, (timestamp, key, value, headers) in enumerate(records):
        builder.append(offset, timestamp, key, value, list(headers))
    return builder


async def create_topic_for_any_time(servers: str, topic: str) -> None:
    """Create a topic that takes timestamps of the far future, as all topics of Kafka 3 do."""
    years = str(2**63 - 1)
    async with open_admin(servers, "test", 5_000) as admin:
        configuration = {"message.timestamp.after.max.ms": years, "message.timestamp.before.max.ms": years}
        answer = await admin.create_topics(
            [NewTopic(topic, 1, 1, topic_configs=configuration | {"retention.ms": "-1"})]
        )
        assert [code for _, code, *_ in answer.topic_errors] == [0]


async def write(servers: str, topic: str, records: Sequence[Written], codec: int) -> None:
    """Write the records as one batch."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = builder_of(records, codec)
        batch._relative_offset = len(records)
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()
