"""Reads from Kafka as a member of a consumer group."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.kafka.connection import Connection, answering
from safevideo_common.messaging.kafka.consumer import ConsumerSession
from safevideo_common.messaging.kafka.records import record_of
from safevideo_common.messaging.port import Record, TopicPartition

ANSWER_SECONDS: Final = 5.0
REBALANCE_SECONDS: Final = 1.0
"""What a fetch waits beyond its timeout while partitions change hands."""


class KafkaSubscription:
    """See `Subscription`. While no broker answers a fetch is empty, as far as aiokafka is concerned; `lag` tells."""

    def __init__(self, connection: Connection[ConsumerSession]) -> None:
        self._connection = connection
        self._rewinding = False

    async def fetch(self, *, max_records: int, timeout: float) -> Sequence[Record]:
        """The next records. After a rebalance those come again that were not committed."""
        session = await self._connection.session_within(timeout)
        try:
            async with answering("a fetch", timeout + ANSWER_SECONDS):
                if self._rewinding:
                    await session.seek_to_committed()
                    self._rewinding = False
                return await _fetched(session, max_records, timeout)
        except LogUnavailable as error:
            if isinstance(error.__cause__, KafkaError) and not isinstance(error.__cause__, IllegalStateError):
                session.end(error.__cause__)
            raise

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Return once the broker has them, or once it is known that the partitions have changed hands meanwhile."""
        session = self._connection.session
        async with answering("a commit", ANSWER_SECONDS):
            # Lost between the look at the assignment and the broker's: it is the new owner's to commit.
            with suppress(CommitFailedError, IllegalStateError):
                await session.commit_ahead(offsets)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """As the broker knows it at this moment."""
        session = self._connection.session
        async with answering("the lag", ANSWER_SECONDS):
            return await session.lag()

    def rewind(self) -> None:
        """The next fetch begins at what is committed."""
        self._rewinding = True


async def _fetched(session: ConsumerSession, max_records: int, timeout: float) -> Sequence[Record]:
    try:
        async with asyncio.timeout(timeout + REBALANCE_SECONDS):
            found = await session.consumer.getmany(timeout_ms=int(timeout * 1000), max_records=max_records)
    except TimeoutError:
        return ()
    return [record_of(each) for records in found.values() for each in records]
