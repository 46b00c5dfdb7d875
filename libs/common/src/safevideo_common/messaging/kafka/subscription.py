"""Reads from Kafka as a member of a consumer group."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.kafka.connection import Connection, answering
from safevideo_common.messaging.kafka.consumer import ConsumerSession
from safevideo_common.messaging.kafka.ownership import Ownership
from safevideo_common.messaging.kafka.records import record_of
from safevideo_common.messaging.port import WHOLE, Claim, Record, Share, TopicPartition

ANSWER_SECONDS: Final = 5.0
REBALANCE_SECONDS: Final = 1.0
"""What a fetch waits beyond its timeout while partitions change hands."""


class KafkaSubscription:
    """See `Subscription`. While no broker answers a fetch is empty, as far as aiokafka is concerned; `lag` tells."""

    def __init__(self, connection: Connection[ConsumerSession], ownership: Ownership) -> None:
        self._connection = connection
        self._ownership = ownership
        self._rewinding = False

    @property
    def epoch(self) -> int:
        """Ends with each rebalance, each connection, and each standstill of the process."""
        return self._ownership.epoch

    def hold(self) -> AbstractContextManager[Claim]:
        """A rebalance waits for the end of the block for `DRAIN_SECONDS`."""
        return self._ownership.hold()

    async def fetch(self, *, max_records: int, timeout: float, share: Share = WHOLE) -> Sequence[Record]:
        """The next records. After a rebalance those come again that were not committed."""
        session = await self._connection.session_within(timeout)
        try:
            async with answering("a fetch", timeout + ANSWER_SECONDS):
                if self._rewinding:
                    await session.seek_to_committed()
                    self._rewinding = False
                return await _fetched(session, max_records, timeout, share)
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


async def _fetched(session: ConsumerSession, max_records: int, timeout: float, share: Share) -> Sequence[Record]:
    try:
        async with asyncio.timeout(timeout + REBALANCE_SECONDS):
            return [record_of(each) for each in await session.getmany(share, max_records, timeout)]
    except TimeoutError:
        return ()
