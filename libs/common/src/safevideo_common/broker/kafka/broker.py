"""The event log on Kafka, put together."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Final

from safevideo_common.broker.delivery import DeliveryTimeouts, InFlightLimit
from safevideo_common.broker.kafka.admin import (
    CREATE_SECONDS,
    DESCRIBE_SECONDS,
    PROBE_SECONDS,
    create,
    open_admin,
    topic_states,
)
from safevideo_common.broker.kafka.assignment import open_assignment
from safevideo_common.broker.kafka.client import open_client, translate_errors
from safevideo_common.broker.kafka.consumer import KafkaSubscription, open_consumer
from safevideo_common.broker.kafka.producer import KafkaProducer, open_producer
from safevideo_common.broker.kafka.reader import KafkaReader, open_reader
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic, TopicState

ADMIN_CLIENT: Final = "safevideo-admin"


class KafkaBroker:
    """See `EventLog`. It holds no connection: each role has its own, and entering it succeeds while Kafka is away."""

    def __init__(self, bootstrap_servers: str) -> None:
        """`bootstrap_servers`: host:port, comma-separated."""
        self._servers = bootstrap_servers

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing, replicated as the broker does by default. Raises `LogUnavailable`."""
        async with (
            translate_errors("creating topics", CREATE_SECONDS),
            open_admin(self._servers, ADMIN_CLIENT, int(CREATE_SECONDS * 1000)) as admin,
        ):
            await create(admin, topics)

    async def topic_states(self, names: Collection[str]) -> list[TopicState]:
        """Those that exist. Raises `LogUnavailable`."""
        async with (
            translate_errors("describing topics", DESCRIBE_SECONDS),
            open_admin(self._servers, ADMIN_CLIENT, int(DESCRIBE_SECONDS * 1000)) as admin,
        ):
            return await topic_states(admin, names)

    async def probe(self) -> None:
        """Return when a broker, asked by a new connection, tells who the others are."""
        async with (
            translate_errors("the probe", PROBE_SECONDS),
            open_admin(self._servers, ADMIN_CLIENT, int(PROBE_SECONDS * 1000)),
        ):
            pass

    @asynccontextmanager
    async def publisher(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AsyncIterator[KafkaProducer]:
        """A publisher. Leaving it waits about two seconds for what is under way."""
        backlog = InFlightLimit()
        connect = partial(open_producer, self._servers, client_id, backlog, acknowledged_within)
        with closing(DeliveryTimeouts(acknowledged_within)) as deadlines:
            async with open_client(f"kafka-publisher-{client_id}", connect) as connection:
                yield KafkaProducer(connection, backlog, deadlines)

    @asynccontextmanager
    async def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AsyncIterator[KafkaSubscription]:
        """A member of `group`. It joins when its topics exist."""
        async with open_assignment(client_id) as ownership:
            connect = partial(open_consumer, self._servers, group, topics, client_id, ownership)
            async with open_client(f"kafka-subscription-{client_id}", connect) as connection:
                yield KafkaSubscription(connection, ownership)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[KafkaReader]:
        """A reader."""
        async with open_client(
            f"kafka-reader-{client_id}", partial(open_reader, self._servers, client_id)
        ) as connection:
            yield KafkaReader(connection)
