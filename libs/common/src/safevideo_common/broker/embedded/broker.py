"""The embedded log, put together."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Final

from safevideo_common.broker.delivery import DeliveryTimeouts
from safevideo_common.broker.embedded import (
    storage as embedded_storage,
)
from safevideo_common.broker.embedded.clients import (
    EmbeddedProducer,
    EmbeddedReader,
    EmbeddedSubscription,
    GroupCoordinator,
)
from safevideo_common.broker.embedded.writer import MetadataCache, SqliteStorage, open_storage
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic, TopicPartition, TopicState
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.tasks import cancel_and_wait

# Records older than their topic keeps them are deleted; offsets are never given twice.


PERIOD_SECONDS: Final = 3600.0
RECORDS_AT_ONCE: Final = 5_000
"""Of one transaction, so that publishing never waits long behind it."""


async def keep_enforcing(catalogue: MetadataCache, file: SqliteStorage) -> None:
    """Delete what is too old, now and then again, for ever. A disk that fails is tried again in the next round."""
    while True:
        for partition in list(catalogue.ids):
            try:
                await _enforce(catalogue, file, partition)
            except BrokerUnavailable:
                break
        await asyncio.sleep(PERIOD_SECONDS)


async def _enforce(catalogue: MetadataCache, file: SqliteStorage, partition: TopicPartition) -> None:
    oldest_kept_ms = time.time_ns() // 1_000_000 - catalogue.retention_ms[partition]
    kept = catalogue.kept(partition)
    start = await file.ask(lambda connection: embedded_storage.offset_at(connection, kept, oldest_kept_ms))
    while (reached := catalogue.starts[partition]) < start:
        # Readers skip them before they go, so that none waits for a record that is no more.
        until = catalogue.starts[partition] = min(start, reached + RECORDS_AT_ONCE)
        await file.write(partial(embedded_storage.delete_before, partition_id=kept.partition_id, offset=until))


class EmbeddedBroker:
    """See `EventLog`. For the event loop that opened it."""

    def __init__(self, catalogue: MetadataCache, file: SqliteStorage) -> None:
        self._catalogue = catalogue
        self._file = file
        self._groups = GroupCoordinator(on_change=catalogue.announce)

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; partitions and retention of what exists stay as they are."""
        await self._file.write(lambda connection: embedded_storage.create_topics(connection, topics))
        self._catalogue.add(await self._file.ask(embedded_storage.partitions))
        self._catalogue.announce()

    async def topic_states(self, names: Collection[str]) -> list[TopicState]:
        """Those that exist."""
        return [state for name in names if (state := self._catalogue.state_of(name))]

    async def probe(self) -> None:
        """Return when the file can be written: the writer thread lives and an fsync comes back."""
        await self._file.write(lambda _: None)

    @asynccontextmanager
    async def publisher(
        self,
        client_id: str,  # noqa: ARG002 - Kafka needs a name
        *,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> AsyncIterator[EmbeddedProducer]:
        """A publisher. Leaving it fails what has not been acknowledged; that is written all the same."""
        with closing(DeliveryTimeouts(acknowledged_within)) as deadlines:
            yield EmbeddedProducer(self._catalogue, self._file.writer, deadlines)

    @asynccontextmanager
    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        client_id: str,  # noqa: ARG002 - Kafka needs a name
    ) -> AsyncIterator[EmbeddedSubscription]:
        """A member of `group`. It may come before its topics."""
        with self._groups.joined(group, topics) as member:
            yield EmbeddedSubscription(group, member, self._groups, self._catalogue, self._file)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[EmbeddedReader]:  # noqa: ARG002 - Kafka needs a name
        """A reader."""
        yield EmbeddedReader(self._catalogue, self._file)


@asynccontextmanager
async def open_embedded_broker(folder: Path) -> AsyncIterator[EmbeddedBroker]:
    """The log in `folder`. Raises `StartupError` naming the process that has it open."""
    catalogue = MetadataCache()
    async with open_storage(folder, catalogue) as file:
        retention = asyncio.create_task(keep_enforcing(catalogue, file), name="embedded-log-retention")
        try:
            yield EmbeddedBroker(catalogue, file)
        finally:
            await cancel_and_wait(retention)
