"""The topics and the database of a test: its own records, the time when all is settled, and the differences then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiokafka.errors import KafkaError
from sqlalchemy import select

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_common.events.topics import CONSUMED
from safevideo_common.outbox import store as outbox_store
from safevideo_testkit.broker_helpers import end_offsets, records_since
from safevideo_testkit.chaos.lag_probe import open_groups
from safevideo_testkit.consumer_groups import seek_groups_to_end
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import (
    PUBLISHED_TOPICS,
    count_deliveries,
    count_events,
    database_differences,
    ingest_differences,
    insert_requests,
    published_differences,
)
from safevideo_testkit.oracle.model import Expected, arrivals_of, expect
from safevideo_testkit.oracle.stream import Stream
from safevideo_testkit.stacks import StackUnderTest

WEBHOOK_TOPICS = tuple(topic for topics in CONSUMED.values() for topic in topics)
POLL_SECONDS = 0.25
ANSWER_SECONDS = 180.0
SETTLE_SECONDS = 300.0
UNAVAILABLE = (ServiceUnavailable, KafkaError, OSError, TimeoutError)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The expected state, the records that the workers published, and the differences."""

    expected: Expected
    published: Sequence[Record]
    differences: Sequence[str]


@dataclass(frozen=True, slots=True)
class System:
    """A broker and a database. The records of the test begin at `begins` and `published_begins`."""

    broker: Broker
    database: Database
    kafka_bootstrap_servers: str
    begins: Mapping[TopicPartition, int]
    published_begins: Mapping[TopicPartition, int]

    async def wait_until_settled(self, seconds: float = SETTLE_SECONDS, deliveries: int = 0) -> None:
        """Return when the workers have consumed all records, no event waits, and the outbox is empty.

        They must have consumed `deliveries` at least: a record may still be in the spool of webhook-ingest.
        """

        async def is_settled() -> bool:
            try:
                return (
                    await count_deliveries(self.database) >= deliveries
                    and await self._all_is_consumed()
                    and not await count_events(self.database, status="waiting")
                    and not await self._outbox_rows()
                )
            except UNAVAILABLE:
                return False

        await eventually(is_settled, seconds, POLL_SECONDS)

    async def compare(self, stream: Stream) -> Comparison:
        """Compare the database and the published records with the webhook topics."""
        expected = expect(stream, arrivals_of(stream, await self.records()))
        published = await records_since(self.broker, self.published_begins)
        wrong = await retry_while_unavailable(lambda: database_differences(self.database, expected))
        return Comparison(expected, published, [*wrong, *published_differences(expected, published)])

    async def check_all_applied(self, stream: Stream) -> Comparison:
        """Wait, then fail unless each event of the stream is in the topics as it was sent, and has had its effect."""
        await self.wait_until_settled(deliveries=len(stream.webhooks))
        wrong = ingest_differences(stream.by_id, stream.by_id, await self.records())
        comparison = await self.compare(stream)
        assert not [*wrong, *comparison.differences], "\n".join([*wrong, *comparison.differences])
        return comparison

    async def records(self) -> Sequence[Record]:
        """Return the records of the webhook topics."""
        return await records_since(self.broker, self.begins)

    async def insert_late_requests(self, stream: Stream) -> None:
        """Insert each late KYC request when an event waits for it. Runs until it is cancelled."""
        waiting = select(event_inbox.c.performer_id).distinct().where(event_inbox.c.status == "waiting")
        missing = set(stream.late)
        while missing:
            try:
                async with self.database.read_connection() as connection:
                    due = missing.intersection(await connection.scalars(waiting))
                for name in due:
                    await insert_requests(self.database, [name])
                    missing.discard(name)
            except DatabaseConflict:
                missing.discard(name)  # a commit whose answer was lost
            except ServiceUnavailable:
                pass
            await asyncio.sleep(POLL_SECONDS)

    async def _all_is_consumed(self) -> bool:
        ends = await end_offsets(self.broker, WEBHOOK_TOPICS)
        if not self.kafka_bootstrap_servers:
            return await count_deliveries(self.database) == sum(ends.values()) - sum(self.begins.values())
        async with open_groups(self.kafka_bootstrap_servers) as groups:
            committed = {key: offset for group in CONSUMED for key, offset in (await groups.committed(group)).items()}
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())

    async def _outbox_rows(self) -> int:
        async with self.database.read_connection() as connection:
            return (await outbox_store.depth(connection)).rows


@asynccontextmanager
async def open_system(stack: StackUnderTest, broker: Broker) -> AsyncIterator[System]:
    """Open the database, and let the groups skip the records of earlier tests. Do it before a worker starts."""
    servers = stack.kafka_bootstrap_servers
    if servers:
        await seek_groups_to_end(servers, broker, CONSUMED)
    async with Database.open(stack.database_url, timeout=ANSWER_SECONDS) as database:
        begins = [await end_offsets(broker, topics) for topics in (WEBHOOK_TOPICS, PUBLISHED_TOPICS)]
        yield System(broker, database, servers, *begins)


async def retry_while_unavailable(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the answer. Asks again if the database connection was cut."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while True:
            try:
                return await question()
            except ServiceUnavailable:
                await asyncio.sleep(POLL_SECONDS)
