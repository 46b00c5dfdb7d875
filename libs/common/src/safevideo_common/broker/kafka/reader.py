"""A Kafka reader: any range of a topic, outside of every group."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.kafka.admin import open_admin, partitions_of
from safevideo_common.broker.kafka.client import (
    FETCH_BYTES,
    ReconnectingClient,
    Session,
    run_shielded,
    stop_consumer,
    translate_errors,
)
from safevideo_common.broker.kafka.records import accept_any_batch, to_record
from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.port import READ_BYTES
from safevideo_common.broker.types import MAX_RECORD_BYTES, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable

ANSWER_SECONDS: Final = 5.0
REQUEST_TIMEOUT_MS: Final = 5_000
FETCH_WAIT_MS: Final = 20
"""How long a broker holds a fetch at the end of a partition. The read of the next partition waits for it."""

LEADER_WAIT_MS: Final = 20
"""A reader that is new to a topic asks for the leaders of its partitions, and asks again after this time."""


class KafkaReader:
    """See `Reader`. Several tasks may use it; it reads one range after the other."""

    def __init__(self, client: "ReconnectingClient[ReaderSession]") -> None:
        self._client = client
        self._lock = asyncio.Lock()

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Return the offsets from the broker's index of timestamps."""
        session = await self._client.wait_for_session(ANSWER_SECONDS)
        async with translate_errors("offsets for a time", ANSWER_SECONDS):
            partitions = await session.partitions(topic)
            found = await session.consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
            ends = await session.consumer.end_offsets(partitions)
        return {TopicPartition(*each): found[each].offset if found[each] else ends[each] for each in partitions}

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return the start offsets as the leaders report them now."""
        session = await self._client.wait_for_session(ANSWER_SECONDS)
        async with translate_errors("start offsets", ANSWER_SECONDS):
            starts = await session.consumer.beginning_offsets(await session.partitions(topic))
        return {TopicPartition(*each): offset for each, offset in starts.items()}

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """Return the end offsets as the leaders report them now."""
        session = await self._client.wait_for_session(ANSWER_SECONDS)
        async with translate_errors("end offsets", ANSWER_SECONDS):
            ends = await session.consumer.end_offsets(await session.partitions(topic))
        return {TopicPartition(*each): offset for each, offset in ends.items()}

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """Return records from `offset` on, or from the oldest record if that is later."""
        session = await self._client.wait_for_session(ANSWER_SECONDS)
        async with self._lock, translate_errors("a range of records", ANSWER_SECONDS):
            return await session.read(KafkaPartition(*partition), offset, max_records)


class ReadPosition(NamedTuple):
    """The position of the consumer, and the end offset when it was last requested."""

    partition: KafkaPartition
    offset: int
    end: int


class ReaderSession(Session):
    """A connected consumer outside of every group. It keeps its position, so that reading on is one request."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        super().__init__()
        self.consumer = consumer
        self._admin = admin
        self._position: ReadPosition | None = None

    async def partitions(self, topic: str) -> list[KafkaPartition]:
        """Return the partitions of the topic. Raises `BrokerUnavailable` if it does not exist."""
        if not (numbers := await partitions_of(self._admin, topic)):
            raise BrokerUnavailable(f"Topic {topic} does not exist.", retry_after=RETRY_AFTER_SECONDS)
        return [KafkaPartition(topic, number) for number in sorted(numbers)]

    async def read(self, partition: KafkaPartition, offset: int, max_records: int) -> list[Record]:
        """Return `max_records` records, or `READ_BYTES`, or all up to the end offset as it was last requested."""
        end = await self._seek(partition, offset)
        found: list[Record] = []
        size = 0
        while offset < end and len(found) < max_records and size < READ_BYTES:
            fetched = await self.consumer.getmany(partition, timeout_ms=1000, max_records=max_records - len(found))
            records = [to_record(each) for each in fetched.get(partition, ())]
            found += records
            size += sum(len(each.value) for each in records)
            offset = found[-1].offset + 1 if found else offset
        self._position = ReadPosition(partition, offset, end)
        return found

    async def _seek(self, partition: KafkaPartition, offset: int) -> int:
        """Go to `offset`, and return the end offset. Requests it only after everything up to the last one is read."""
        here, self._position = self._position, None  # unknown, if this fails
        if here is not None and here[:2] == (partition, offset):
            # Without a seek, which would drop the records that are read ahead.
            return here.end if offset < here.end else await self._end(partition)
        if here is None or here.partition != partition:
            self.consumer.assign([partition])
        self.consumer.seek(partition, offset)
        return await self._end(partition)

    async def _end(self, partition: KafkaPartition) -> int:
        return int((await self.consumer.end_offsets([partition]))[partition])


@asynccontextmanager
async def open_reader(bootstrap_servers: str, security: KafkaSecurity, client_id: str) -> AsyncIterator[ReaderSession]:
    """Open a connected reader. Raises an error of aiokafka if no broker answers."""
    accept_any_batch()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        retry_backoff_ms=LEADER_WAIT_MS,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        **security.arguments(),
    )
    try:
        await consumer.start()
        async with open_admin(bootstrap_servers, client_id, REQUEST_TIMEOUT_MS, security) as admin:
            yield ReaderSession(consumer, admin)
    finally:
        await run_shielded(f"kafka-stop-{client_id}", stop_consumer(consumer))
