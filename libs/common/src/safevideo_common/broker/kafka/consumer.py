"""A member of a Kafka consumer group: fetch, commit, lag."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer import group_coordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, UnknownTopicOrPartitionError
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetFetchRequest_v1
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka.assignment import Assignment
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
from safevideo_common.broker.port import ALL_PARTITIONS, PartitionClaim, PartitionShard
from safevideo_common.broker.types import MAX_RECORD_BYTES, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable

SESSION_TIMEOUT_MS: Final = 15_000
"""Without a heartbeat for this long, the broker gives the partitions to another member. Heartbeats share the event
loop with the processing."""
HEARTBEAT_MS: Final = 1_000
"""A member learns of a rebalance with its next heartbeat."""
REBALANCE_TIMEOUT_MS: Final = 15_000
"""The other members wait this long for a member to join again. By default aiokafka uses the session timeout."""
REQUEST_TIMEOUT_MS: Final = REBALANCE_TIMEOUT_MS + 5_000
"""A request to join is answered when all other members have joined."""
FETCH_WAIT_MS: Final = 100
"""How long a broker holds a fetch that finds nothing. aiokafka has one fetch in flight per broker: records of a
partition that is not part of that fetch wait until it returns."""
DRAIN_SECONDS: Final = 5.0
"""A rebalance waits this long for batches in flight. The other members wait too, up to `REBALANCE_TIMEOUT_MS`."""
MAX_POLL_INTERVAL_MS: Final = 24 * 60 * 60 * 1000
"""Without a fetch for this long, aiokafka leaves the group. It cannot distinguish a stuck consumer from one that waits
for its database; `/healthz` can (`ConsumerLiveness` in `inbox/consume_loop.py`)."""

ANSWER_SECONDS: Final = 5.0
REBALANCE_SECONDS: Final = 1.0
"""During a rebalance a fetch waits this much longer than its timeout."""

_NO_PARTITION: Final = KafkaPartition("", -1)
"""A partition that is never assigned. Without an argument, `getmany` of aiokafka returns records of all partitions."""


class OffsetFetchRequest(Request[OffsetFetchRequest_v1]):  # type: ignore[misc]  # aiokafka has no types
    """A request for committed offsets, in the version whose answer has an error at each partition.

    Newer answers have one error for all, at their end, which aiokafka 0.14 does not read: "I am not the coordinator"
    and "I am still loading" look like "nothing is committed". A member would begin at the oldest record, and commit
    from there, after any change of the coordinator.
    """

    API_KEY = OffsetFetchRequest_v1.API_KEY

    def __init__(self, group: str, partitions: Sequence[tuple[str, Sequence[int]]]) -> None:
        """`partitions` are the numbers of each topic."""
        self._arguments = (group, partitions)

    def build(self, request_struct_class: type[OffsetFetchRequest_v1]) -> OffsetFetchRequest_v1:
        """Return the request."""
        return request_struct_class(*self._arguments)


def notice_outdated_coordinators() -> None:
    """Let all consumers of this process ask with `OffsetFetchRequest`. Further calls change nothing."""
    group_coordinator.OffsetFetchRequest = OffsetFetchRequest


class ConsumerSession(Session, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A consumer that has joined its group, with a cache of the committed offsets."""

    def __init__(self, consumer: AIOKafkaConsumer, assignment: Assignment) -> None:
        super().__init__()
        self._consumer = consumer
        self._assignment = assignment
        self._committed: dict[KafkaPartition, int] = {}

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:  # noqa: ARG002 - always all
        """Drain, then fence: batches in flight may end and commit first. aiokafka waits and sends heartbeats."""
        await self._assignment.drain(DRAIN_SECONDS)
        self._committed = {}  # a new dict: an answer in flight fills the old one

    def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        """Do nothing: aiokafka starts at the committed offsets."""

    async def fetch(self, shard: PartitionShard, max_records: int, timeout: float) -> Sequence[Record]:
        """Return the next records of the shard; none during a long rebalance.

        Raises `KafkaError`, also for earlier errors of the group.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout + REBALANCE_SECONDS):
                if not self._consumer.assignment():
                    await self._consumer.getmany(_NO_PARTITION, timeout_ms=1)  # returns once there is an assignment
                owned = [each for each in self._consumer.assignment() if shard.contains(each.partition)]
                found = await self._consumer.getmany(
                    *(owned or [_NO_PARTITION]), timeout_ms=int(timeout * 1000), max_records=max_records
                )
                return [to_record(each) for fetched in found.values() for each in fetched]
        return ()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit owned partitions, and only forward. `commit` of aiokafka would also move them backwards.

        Raises `KafkaError`: `CommitFailedError` or `IllegalStateError` if partitions changed their owner meanwhile.
        """
        cache, assigned = self._committed, self._consumer.assignment()
        owned = {
            partition: offset for each, offset in offsets.items() if (partition := KafkaPartition(*each)) in assigned
        }
        committed = await self._load_committed(owned, cache)
        forward = {partition: offset for partition, offset in owned.items() if offset > committed.get(partition, -1)}
        if forward:
            await self._consumer.commit(forward)
            cache.update(forward)

    async def seek_to_committed(self) -> None:
        """Seek to the committed offsets, or to the oldest record. Raises `KafkaError`."""
        owned = self._consumer.assignment()
        committed = await self._load_committed(owned, self._committed)
        for partition, offset in committed.items():
            self._consumer.seek(partition, offset)
        if uncommitted := owned - committed.keys():
            await self._consumer.seek_to_beginning(*uncommitted)

    async def lag(self) -> dict[TopicPartition, int]:
        """Return the lag of each owned partition. Raises `KafkaError`."""
        owned = list(self._consumer.assignment())
        starts, ends, committed = await asyncio.gather(
            self._consumer.beginning_offsets(owned),
            self._consumer.end_offsets(owned),
            self._load_committed(owned, self._committed),
        )
        return {TopicPartition(*each): ends[each] - max(committed.get(each, 0), starts[each]) for each in owned}

    async def _load_committed(
        self, partitions: Iterable[KafkaPartition], cache: dict[KafkaPartition, int]
    ) -> dict[KafkaPartition, int]:
        """Return the committed offsets, where there are any. Asks the broker once per partition and assignment."""
        partitions = list(partitions)
        missing = [each for each in partitions if each not in cache]
        answers = await asyncio.gather(*(self._consumer.committed(each) for each in missing))
        for each, offset in zip(missing, answers, strict=True):
            # A commit may have been faster than this answer, which is older then.
            if offset is not None:
                cache[each] = max(offset, cache.get(each, offset))
        return {each: cache[each] for each in partitions if each in cache}


ASSIGNORS: Final = (RangePartitionAssignor,)
"""A member gets neighbours, so each of its shards has partitions. The default deals partitions out in turn: of two
members one gets the even and the other the odd ones, and one shard of each stays empty."""


@asynccontextmanager
async def open_consumer(
    bootstrap_servers: str,
    security: KafkaSecurity,
    group: str,
    topics: Sequence[str],
    client_id: str,
    assignment: Assignment,
) -> AsyncIterator[ConsumerSession]:
    """Join the group for the time of the block. The member owns no partition until the others have released some.

    Raises `KafkaError` if no broker answers or a topic does not exist.
    """
    accept_any_batch()
    notice_outdated_coordinators()
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
        partition_assignment_strategy=ASSIGNORS,
        **security.arguments(),
    )
    session = ConsumerSession(consumer, assignment)
    try:
        await consumer.start()
        # A member would notice minutes later that a topic, missing when it joined, exists now.
        if missing := set(topics) - await consumer.topics():
            raise UnknownTopicOrPartitionError(*missing)
        consumer.subscribe(topics, listener=session)
        yield session
    finally:
        assignment.revoke()
        await run_shielded(f"kafka-stop-{client_id}", stop_consumer(consumer))


class KafkaSubscription:
    """See `Subscription`. While no broker answers, `fetch` of aiokafka returns nothing; `lag` raises."""

    def __init__(self, client: ReconnectingClient[ConsumerSession], assignment: Assignment) -> None:
        self._client = client
        self._assignment = assignment
        self._must_seek = False

    @property
    def generation(self) -> int:
        """Rises with each rebalance, each connection, and each standstill of the process."""
        return self._assignment.generation

    def processing(self) -> AbstractContextManager[PartitionClaim]:
        """Mark the batch as in flight. A rebalance waits up to `DRAIN_SECONDS` for the end of the block."""
        return self._assignment.hold()

    async def fetch(
        self, *, max_records: int, timeout: float, shard: PartitionShard = ALL_PARTITIONS
    ) -> Sequence[Record]:
        """Return the next records. After a rebalance, records without a commit come again."""
        session = await self._client.wait_for_session(timeout)
        try:
            async with translate_errors("a fetch", timeout + ANSWER_SECONDS):
                if self._must_seek:
                    await session.seek_to_committed()
                    self._must_seek = False
                return await session.fetch(shard, max_records, timeout)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, KafkaError) and not isinstance(error.__cause__, IllegalStateError):
                session.fail(error.__cause__)
            raise

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Return once the broker has stored the offsets, or has refused them because partitions changed their owner."""
        session = self._client.current
        # A partition that is lost between the check of the assignment and the commit: its new owner commits.
        async with translate_errors("a commit", ANSWER_SECONDS):
            with suppress(CommitFailedError, IllegalStateError):
                await session.commit(offsets)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Return the lag as the broker reports it now."""
        session = self._client.current
        async with translate_errors("the lag", ANSWER_SECONDS):
            return await session.lag()

    def seek_to_committed(self) -> None:
        """Start the next fetch at the committed offsets."""
        self._must_seek = True
