"""The Kafka broker: opens the clients of each role."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from safevideo_common.broker.delivery import DeliveryTimeouts, InFlightLimit
from safevideo_common.broker.kafka import admin
from safevideo_common.broker.kafka.assignment import open_assignment
from safevideo_common.broker.kafka.client import open_client, translate_errors
from safevideo_common.broker.kafka.consumer import KafkaSubscription, open_consumer
from safevideo_common.broker.kafka.producer import KafkaProducer, KnownPartitions, open_producer
from safevideo_common.broker.kafka.reader import KafkaReader, open_reader
from safevideo_common.broker.kafka.security import PLAINTEXT, KafkaSecurity
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic, TopicState

CREATE_SECONDS: Final = 15.0
DESCRIBE_SECONDS: Final = 10.0
PROBE_SECONDS: Final = 2.0


class KafkaBroker:
    """See `Broker`. It holds no connection: each producer, subscription and reader has its own."""

    def __init__(self, bootstrap_servers: str, security: KafkaSecurity = PLAINTEXT) -> None:
        """`bootstrap_servers` is host:port, comma-separated."""
        self._servers = bootstrap_servers
        self._security = security

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create missing topics with the default replication factor of the cluster.

        If that is 2 or more, a message must be on two disks before it is acknowledged (`min.insync.replicas=2`).
        """
        async with self._open_admin("creating topics", CREATE_SECONDS) as client:
            await admin.create_topics(client, topics)

    async def topic_states(self, names: Collection[str]) -> list[TopicState]:
        """Return the states of those topics that exist."""
        async with self._open_admin("describing topics", DESCRIBE_SECONDS) as client:
            return await admin.topic_states(client, names)

    async def probe(self) -> None:
        """Return if a broker answers a request for metadata over a new connection."""
        async with self._open_admin("the probe", PROBE_SECONDS):
            pass

    @asynccontextmanager
    async def _open_admin(self, request: str, seconds: float) -> AsyncIterator[AIOKafkaAdminClient]:
        async with (
            translate_errors(request, seconds),
            # One request ends before the bound of all: aiokafka does not close a connection whose request is cancelled.
            admin.open_admin(self._servers, "safevideo-admin", int(seconds * 900), self._security) as client,
        ):
            yield client

    @asynccontextmanager
    async def producer(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AsyncIterator[KafkaProducer]:
        """Open a producer. Closing it waits about two seconds for messages in flight."""
        partitions: KnownPartitions = {}
        connect = partial(open_producer, self._servers, self._security, client_id, partitions, acknowledged_within)
        with closing(DeliveryTimeouts(acknowledged_within)) as timeouts:
            async with open_client(f"kafka-producer-{client_id}", connect) as client:
                yield KafkaProducer(client, InFlightLimit(), timeouts, partitions)

    @asynccontextmanager
    async def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AsyncIterator[KafkaSubscription]:
        """Join `group` once its topics exist."""
        async with open_assignment(client_id) as assignment:
            connect = partial(open_consumer, self._servers, self._security, group, topics, client_id, assignment)
            async with open_client(f"kafka-subscription-{client_id}", connect) as client:
                yield KafkaSubscription(client, assignment)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[KafkaReader]:
        """Open a reader."""
        connect = partial(open_reader, self._servers, self._security, client_id)
        async with open_client(f"kafka-reader-{client_id}", connect) as client:
            yield KafkaReader(client)
