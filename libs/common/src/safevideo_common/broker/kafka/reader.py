"""Reads any range of a topic from Kafka."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, NoReturn

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.kafka.admin import open_admin, partitions_of
from safevideo_common.broker.kafka.client import (
    FETCH_BYTES,
    ReconnectingClient,
    record_of,
    run_shielded,
    stop_consumer,
    translate_errors,
)
from safevideo_common.broker.port import READ_BYTES
from safevideo_common.broker.types import MAX_RECORD_BYTES, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable

ANSWER_SECONDS: Final = 5.0
REQUEST_TIMEOUT_MS: Final = 5_000
FETCH_WAIT_MS: Final = 20
"""At the end of a partition the client goes on asking for so long, and the next partition waits behind that."""

LEADER_WAIT_MS: Final = 20
"""A reader that is new to a topic asks who leads its partitions, and looks again after so long."""


class ReadPosition(NamedTuple):
    """Where the consumer stands, and what was the end when that was asked last."""

    partition: KafkaPartition
    offset: int
    end: int


class ReaderSession:
    """A consumer outside of every group."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        self.broken: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self.consumer = consumer
        self._admin = admin
        self._place: ReadPosition | None = None

    async def partitions(self, topic: str) -> list[KafkaPartition]:
        """Raises `BrokerUnavailable` when the topic does not exist."""
        if not (numbers := await partitions_of(self._admin, topic)):
            raise BrokerUnavailable(f"Topic {topic} does not exist.", retry_after=RETRY_AFTER_SECONDS)
        return [KafkaPartition(topic, number) for number in sorted(numbers)]

    async def read(self, partition: KafkaPartition, offset: int, max_records: int) -> list[Record]:
        """As many as were asked for and may be given at once, or all up to what was the end a while ago."""
        end = await self._go_to(partition, offset)
        found: list[Record] = []
        size = 0
        while offset < end and len(found) < max_records and size < READ_BYTES:
            fetched = await self.consumer.getmany(partition, timeout_ms=1000, max_records=max_records - len(found))
            records = [record_of(each) for each in fetched.get(partition, ())]
            found += records
            size += sum(len(each.value) for each in records)
            offset = found[-1].offset + 1 if found else offset
        self._place = ReadPosition(partition, offset, end)
        return found

    async def _go_to(self, partition: KafkaPartition, offset: int) -> int:
        """The end of the partition: who reads on is not made to wait for it until all that was there is read."""
        here, self._place = self._place, None  # unknown again, if this fails half-way
        if here is not None and here[:2] == (partition, offset):
            # Going to where we are would throw away what is fetched ahead.
            return here.end if offset < here.end else await self._end(partition)
        if here is None or here.partition != partition:
            self.consumer.assign([partition])
        self.consumer.seek(partition, offset)
        return await self._end(partition)

    async def _end(self, partition: KafkaPartition) -> int:
        return int((await self.consumer.end_offsets([partition]))[partition])


class KafkaReader:
    """See `Reader`. For one task at a time, or several: ranges are read one after the other."""

    def __init__(self, connection: ReconnectingClient[ReaderSession]) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """From the broker's index of timestamps."""
        session = await self._connection.session_within(ANSWER_SECONDS)
        async with translate_errors("offsets at a moment", ANSWER_SECONDS):
            partitions = await session.partitions(topic)
            found = await session.consumer.offsets_for_times(dict.fromkeys(partitions, timestamp_ms))
            ends = await session.consumer.end_offsets(partitions)
        return {TopicPartition(*each): found[each].offset if found[each] else ends[each] for each in partitions}

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """As the leaders know them at this moment."""
        session = await self._connection.session_within(ANSWER_SECONDS)
        async with translate_errors("start offsets", ANSWER_SECONDS):
            starts = await session.consumer.beginning_offsets(await session.partitions(topic))
        return {TopicPartition(*each): offset for each, offset in starts.items()}

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """As the leaders know them at this moment."""
        session = await self._connection.session_within(ANSWER_SECONDS)
        async with translate_errors("end offsets", ANSWER_SECONDS):
            ends = await session.consumer.end_offsets(await session.partitions(topic))
        return {TopicPartition(*each): offset for each, offset in ends.items()}

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        """A range; one that begins before the oldest kept record begins with that one."""
        session = await self._connection.session_within(ANSWER_SECONDS)
        async with self._turn, translate_errors("a range of records", ANSWER_SECONDS):
            return await session.read(KafkaPartition(*partition), offset, max_records)


@asynccontextmanager
async def open_reader(bootstrap_servers: str, client_id: str) -> AsyncIterator[ReaderSession]:
    """One reader, from its connecting to its end. Raises when no broker answers."""
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
    )
    try:
        await consumer.start()
        async with open_admin(bootstrap_servers, client_id, REQUEST_TIMEOUT_MS) as admin:
            yield ReaderSession(consumer, admin)
    finally:
        await run_shielded(f"kafka-stop-{client_id}", stop_consumer(consumer))
