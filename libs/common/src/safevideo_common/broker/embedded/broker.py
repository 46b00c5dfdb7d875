"""The embedded broker: opens the file and its clients, and deletes old records."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Final

from safevideo_common.broker.delivery import DeliveryTimeouts
from safevideo_common.broker.embedded import storage
from safevideo_common.broker.embedded.clients import EmbeddedProducer, EmbeddedReader, EmbeddedSubscription
from safevideo_common.broker.embedded.metadata import GroupCoordinator, MetadataCache
from safevideo_common.broker.embedded.writer import SqliteStorage, open_storage
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic, TopicPartition, TopicState
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.tasks import cancel_and_wait

RETENTION_PERIOD_SECONDS: Final = 3600.0
MAX_DELETED_PER_TRANSACTION: Final = 5_000
"""So that publishing never waits long for a deletion."""


@asynccontextmanager
async def open_embedded_broker(folder: Path) -> AsyncIterator["EmbeddedBroker"]:
    """Open the broker in `folder`. Raises `StartupError` with the id of the process that has it open."""
    metadata = MetadataCache()
    async with open_storage(folder, metadata) as file:
        retention = asyncio.create_task(_keep_deleting(metadata, file), name="embedded-broker-retention")
        try:
            yield EmbeddedBroker(metadata, file)
        finally:
            await cancel_and_wait(retention)


class EmbeddedBroker:
    """See `Broker`. For the event loop that opened it."""

    def __init__(self, metadata: MetadataCache, file: SqliteStorage) -> None:
        self._metadata = metadata
        self._file = file
        self._groups = GroupCoordinator(on_change=metadata.notify)

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create missing topics. Existing ones keep their partitions and their retention."""
        await self._file.write(lambda connection: storage.create_topics(connection, topics))
        self._metadata.add(await self._file.read(storage.partitions))

    async def topic_states(self, names: Collection[str]) -> list[TopicState]:
        """Return the states of those topics that exist."""
        return [state for name in names if (state := self._metadata.topic_state(name))]

    async def probe(self) -> None:
        """Return if the writer thread lives and an fsync returns."""
        await self._file.write(lambda _: None)

    @asynccontextmanager
    async def producer(
        self,
        client_id: str,  # noqa: ARG002 - Kafka needs a name
        *,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> AsyncIterator[EmbeddedProducer]:
        """Open a producer. Closing it fails messages without an acknowledgement; they are still written."""
        with closing(DeliveryTimeouts(acknowledged_within)) as timeouts:
            yield EmbeddedProducer(self._metadata, self._file, timeouts)

    @asynccontextmanager
    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        client_id: str,  # noqa: ARG002 - Kafka needs a name
    ) -> AsyncIterator[EmbeddedSubscription]:
        """Join `group`. The topics may be created later."""
        with self._groups.join(group, topics) as membership:
            yield EmbeddedSubscription(membership, self._metadata, self._file)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[EmbeddedReader]:  # noqa: ARG002 - Kafka needs a name
        """Open a reader."""
        yield EmbeddedReader(self._metadata, self._file)


async def _keep_deleting(metadata: MetadataCache, file: SqliteStorage) -> None:
    """Delete old records periodically. After a failure of the disk, try again in the next period."""
    while True:
        for partition in metadata.all_partitions():
            try:
                await _delete_old(metadata, file, partition)
            except BrokerUnavailable:
                break
        await asyncio.sleep(RETENTION_PERIOD_SECONDS)


async def _delete_old(metadata: MetadataCache, file: SqliteStorage, partition: TopicPartition) -> None:
    oldest_ms = time.time_ns() // 1_000_000 - metadata.retention_ms(partition)
    available = metadata.available_range(partition)
    start = await file.read(lambda connection: storage.offset_for_time(connection, available, oldest_ms))
    while (low := metadata.low_watermark(partition)) < start:
        # Hide the records first, so that no reader waits for a record that is deleted meanwhile.
        until = min(start, low + MAX_DELETED_PER_TRANSACTION)
        metadata.raise_low_watermark(partition, until)
        await file.write(partial(storage.delete_before, partition_id=available.partition_id, offset=until))
