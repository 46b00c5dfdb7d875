"""The event log on Kafka, put together."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Final

from safevideo_common.messaging.backlog import Backlog
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.kafka.admin import CREATE_SECONDS, PROBE_SECONDS, administering, create
from safevideo_common.messaging.kafka.connection import answering, connected
from safevideo_common.messaging.kafka.consumer import consuming
from safevideo_common.messaging.kafka.describing import DESCRIBE_SECONDS, topic_states
from safevideo_common.messaging.kafka.ownership import owning
from safevideo_common.messaging.kafka.publisher import KafkaPublisher, producing
from safevideo_common.messaging.kafka.reader import KafkaReader, reading
from safevideo_common.messaging.kafka.subscription import KafkaSubscription
from safevideo_common.messaging.port import ACKNOWLEDGED_WITHIN_SECONDS, Topic, TopicState

ADMIN_CLIENT: Final = "safevideo-admin"


class KafkaLog:
    """See `EventLog`. It holds no connection: each role has its own, and entering it succeeds while Kafka is away."""

    def __init__(self, bootstrap_servers: str) -> None:
        """`bootstrap_servers`: host:port, comma-separated."""
        self._servers = bootstrap_servers

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing, replicated as the broker does by default. Raises `LogUnavailable`."""
        async with (
            answering("creating topics", CREATE_SECONDS),
            administering(self._servers, ADMIN_CLIENT, int(CREATE_SECONDS * 1000)) as admin,
        ):
            await create(admin, topics)

    async def topic_states(self, names: Collection[str]) -> list[TopicState]:
        """Those that exist. Raises `LogUnavailable`."""
        async with (
            answering("describing topics", DESCRIBE_SECONDS),
            administering(self._servers, ADMIN_CLIENT, int(DESCRIBE_SECONDS * 1000)) as admin,
        ):
            return await topic_states(admin, names)

    async def probe(self) -> None:
        """Return when a broker, asked by a new connection, tells who the others are."""
        async with (
            answering("the probe", PROBE_SECONDS),
            administering(self._servers, ADMIN_CLIENT, int(PROBE_SECONDS * 1000)),
        ):
            pass

    @asynccontextmanager
    async def publisher(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AsyncIterator[KafkaPublisher]:
        """A publisher. Leaving it waits about two seconds for what is under way."""
        backlog = Backlog()
        connect = partial(producing, self._servers, client_id, backlog, acknowledged_within)
        with closing(Deadlines(acknowledged_within)) as deadlines:
            async with connected(f"kafka-publisher-{client_id}", connect) as connection:
                yield KafkaPublisher(connection, backlog, deadlines)

    @asynccontextmanager
    async def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AsyncIterator[KafkaSubscription]:
        """A member of `group`. It joins when its topics exist."""
        async with owning(client_id) as ownership:
            connect = partial(consuming, self._servers, group, topics, client_id, ownership)
            async with connected(f"kafka-subscription-{client_id}", connect) as connection:
                yield KafkaSubscription(connection, ownership)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[KafkaReader]:
        """A reader."""
        async with connected(f"kafka-reader-{client_id}", partial(reading, self._servers, client_id)) as connection:
            yield KafkaReader(connection)
