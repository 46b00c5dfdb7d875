"""The embedded log, put together."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from safevideo_common.cancellation import ended
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.embedded import reading, writing
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.file import LogFile, opened
from safevideo_common.messaging.embedded.groups import Groups
from safevideo_common.messaging.embedded.publisher import EmbeddedPublisher
from safevideo_common.messaging.embedded.reader import EmbeddedReader
from safevideo_common.messaging.embedded.retention import keep_enforcing
from safevideo_common.messaging.embedded.subscription import EmbeddedSubscription
from safevideo_common.messaging.port import ACKNOWLEDGED_WITHIN_SECONDS, Topic, TopicState


class EmbeddedLog:
    """See `EventLog`. For the event loop that opened it."""

    def __init__(self, catalogue: Catalogue, file: LogFile) -> None:
        self._catalogue = catalogue
        self._file = file
        self._groups = Groups(on_change=catalogue.announce)

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; partitions and retention of what exists stay as they are."""
        await self._file.write(lambda connection: writing.create_topics(connection, topics))
        self._catalogue.add(await self._file.ask(reading.partitions))
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
    ) -> AsyncIterator[EmbeddedPublisher]:
        """A publisher. Leaving it fails what has not been acknowledged; that is written all the same."""
        with closing(Deadlines(acknowledged_within)) as deadlines:
            yield EmbeddedPublisher(self._catalogue, self._file.writer, deadlines)

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
async def embedded_log(folder: Path) -> AsyncIterator[EmbeddedLog]:
    """The log in `folder`. Raises `StartupError` naming the process that has it open."""
    catalogue = Catalogue()
    async with opened(folder, catalogue) as file:
        retention = asyncio.create_task(keep_enforcing(catalogue, file), name="embedded-log-retention")
        try:
            yield EmbeddedLog(catalogue, file)
        finally:
            await ended(retention)
