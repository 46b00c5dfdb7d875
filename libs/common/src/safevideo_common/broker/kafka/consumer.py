"""A consumer that has joined its group."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Final, NoReturn

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka.assignment import Assignment
from safevideo_common.broker.kafka.client import (
    FETCH_BYTES,
    ReconnectingClient,
    record_of,
    run_shielded,
    stop_consumer,
    translate_errors,
)
from safevideo_common.broker.port import WHOLE, PartitionClaim, PartitionShard
from safevideo_common.broker.types import MAX_RECORD_BYTES, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable

SESSION_TIMEOUT_MS: Final = 15_000
"""After so long without a heartbeat another member takes over. Heartbeats share the event loop with the work."""
HEARTBEAT_MS: Final = 1_000
"""By the next heartbeat at the latest a member hears that another one has come or gone."""
REBALANCE_TIMEOUT_MS: Final = 15_000
"""How long the others wait for a member to join again. Unsaid, aiokafka would take the session timeout for it."""
REQUEST_TIMEOUT_MS: Final = REBALANCE_TIMEOUT_MS + 5_000
"""A member that joins is answered when all others have joined."""
FETCH_WAIT_MS: Final = 100
"""How long a broker holds a fetch that finds nothing. aiokafka has one fetch under way a broker: what comes for a
partition that is not part of it waits until it is back."""


DRAIN_SECONDS: Final = 5.0
"""What a rebalance waits for the batches in hand: the others wait meanwhile, for `REBALANCE_TIMEOUT_MS` at most."""
MAX_POLL_INTERVAL_MS: Final = 24 * 60 * 60 * 1000
"""After so long without a fetch aiokafka leaves the group. It cannot tell a stuck consumer from one whose database is
away; `/healthz` can (`consuming/progress.py`)."""


NOBODYS: Final = KafkaPartition("", -1)


class ConsumerSession(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What is known of the partitions is forgotten when they change hands."""

    def __init__(self, consumer: AIOKafkaConsumer, ownership: Assignment) -> None:
        self.broken: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self.consumer = consumer
        self._ownership = ownership
        self._committed: dict[KafkaPartition, int] = {}

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:  # noqa: ARG002 - aiokafka revokes all
        """Drain, then fence: what is in hand may be finished and committed first. aiokafka waits, and heartbeats on."""
        await self._ownership.drain(DRAIN_SECONDS)
        self._committed = {}  # a new one: an answer that is under way belongs to the old

    def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        """Nothing to do: aiokafka fetches from what is committed."""

    async def getmany(self, share: PartitionShard, max_records: int, timeout: float) -> list[ConsumerRecord]:
        """The next records of the partitions in `share`. Raises `KafkaError`, also for what went wrong in the group."""
        if not self.consumer.assignment():
            await self.consumer.getmany(NOBODYS, timeout_ms=1)  # returns when there is an assignment
        owned = [each for each in self.consumer.assignment() if share.has(each.partition)]
        # Without a partition aiokafka would take them all.
        found = await self.consumer.getmany(
            *(owned or [NOBODYS]), timeout_ms=int(timeout * 1000), max_records=max_records
        )
        return [record for records in found.values() for record in records]

    def end(self, error: BaseException) -> None:
        """Have this consumer replaced."""
        if not self.broken.done():
            self.broken.set_exception(error)

    async def commit_ahead(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit what is ours and a step forward. aiokafka's own `commit` would go backwards as well.

        Raises `KafkaError`: `CommitFailedError` or `IllegalStateError` when partitions changed hands meanwhile.
        """
        known, owned = self._committed, self.consumer.assignment()
        ours = {partition: offset for each, offset in offsets.items() if (partition := KafkaPartition(*each)) in owned}
        committed = await self._find_committed(ours, known)
        ahead = {partition: offset for partition, offset in ours.items() if offset > committed.get(partition, -1)}
        if ahead:
            await self.consumer.commit(ahead)
            known.update(ahead)

    async def seek_to_committed(self) -> None:
        """Go back to what is committed, or to the beginning. Raises `KafkaError`."""
        owned = self.consumer.assignment()
        committed = await self._find_committed(owned, self._committed)
        for partition, offset in committed.items():
            self.consumer.seek(partition, offset)
        if untouched := owned - committed.keys():
            await self.consumer.seek_to_beginning(*untouched)

    async def lag(self) -> dict[TopicPartition, int]:
        """Records of each owned partition that are not committed. Raises `KafkaError`."""
        owned = list(self.consumer.assignment())
        starts, ends, committed = await asyncio.gather(
            self.consumer.beginning_offsets(owned),
            self.consumer.end_offsets(owned),
            self._find_committed(owned, self._committed),
        )
        return {TopicPartition(*each): ends[each] - max(committed.get(each, 0), starts[each]) for each in owned}

    async def _find_committed(
        self, partitions: Iterable[KafkaPartition], known: dict[KafkaPartition, int]
    ) -> dict[KafkaPartition, int]:
        """The group's next offsets, where there are any. The broker is asked once for each partition that we get."""
        wanted = list(partitions)
        unknown = [each for each in wanted if each not in known]
        answers = await asyncio.gather(*(self.consumer.committed(each) for each in unknown))
        known.update({each: offset for each, offset in zip(unknown, answers, strict=True) if offset is not None})
        return {each: known[each] for each in wanted if each in known}


@asynccontextmanager
async def open_consumer(
    bootstrap_servers: str, group: str, topics: Sequence[str], client_id: str, ownership: Assignment
) -> AsyncIterator[ConsumerSession]:
    """One consumer, from its joining to its leaving. It owns nothing until the others have made room for it.

    Raises `KafkaError` when no broker answers or a topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    session = ConsumerSession(consumer, ownership)
    try:
        await consumer.start()
        # A topic that is not there when a member joins would be noticed minutes later.
        if missing := set(topics) - await consumer.topics():
            raise UnknownTopicOrPartitionError(*missing)
        consumer.subscribe(topics, listener=session)
        yield session
    finally:
        ownership.lose()
        await run_shielded(f"kafka-stop-{client_id}", stop_consumer(consumer))


# Reads from Kafka as a member of a consumer group.


ANSWER_SECONDS: Final = 5.0
REBALANCE_SECONDS: Final = 1.0
"""What a fetch waits beyond its timeout while partitions change hands."""


class KafkaSubscription:
    """See `Subscription`. While no broker answers a fetch is empty, as far as aiokafka is concerned; `lag` tells."""

    def __init__(self, connection: ReconnectingClient[ConsumerSession], ownership: Assignment) -> None:
        self._connection = connection
        self._ownership = ownership
        self._rewinding = False

    @property
    def epoch(self) -> int:
        """Ends with each rebalance, each connection, and each standstill of the process."""
        return self._ownership.epoch

    def hold(self) -> AbstractContextManager[PartitionClaim]:
        """A rebalance waits for the end of the block for `DRAIN_SECONDS`."""
        return self._ownership.hold()

    async def fetch(self, *, max_records: int, timeout: float, share: PartitionShard = WHOLE) -> Sequence[Record]:
        """The next records. After a rebalance those come again that were not committed."""
        session = await self._connection.session_within(timeout)
        try:
            async with translate_errors("a fetch", timeout + ANSWER_SECONDS):
                if self._rewinding:
                    await session.seek_to_committed()
                    self._rewinding = False
                return await _fetched(session, max_records, timeout, share)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, KafkaError) and not isinstance(error.__cause__, IllegalStateError):
                session.end(error.__cause__)
            raise

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Return once the broker has them, or once it is known that the partitions have changed hands meanwhile."""
        session = self._connection.session
        async with translate_errors("a commit", ANSWER_SECONDS):
            # Lost between the look at the assignment and the broker's: it is the new owner's to commit.
            with suppress(CommitFailedError, IllegalStateError):
                await session.commit_ahead(offsets)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """As the broker knows it at this moment."""
        session = self._connection.session
        async with translate_errors("the lag", ANSWER_SECONDS):
            return await session.lag()

    def rewind(self) -> None:
        """The next fetch begins at what is committed."""
        self._rewinding = True


async def _fetched(
    session: ConsumerSession, max_records: int, timeout: float, share: PartitionShard
) -> Sequence[Record]:
    try:
        async with asyncio.timeout(timeout + REBALANCE_SECONDS):
            return [record_of(each) for each in await session.getmany(share, max_records, timeout)]
    except TimeoutError:
        return ()
