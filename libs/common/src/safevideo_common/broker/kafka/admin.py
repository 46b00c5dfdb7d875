"""Topics of Kafka: creating and describing them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoBrokersAvailable,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.kafka.client import has_controller
from safevideo_common.broker.kafka.security import PLAINTEXT, KafkaSecurity
from safevideo_common.broker.types import MAX_RECORD_BYTES, Topic, TopicState
from safevideo_common.errors import BrokerUnavailable

SETTLE_SECONDS: Final = 10.0
"""A cluster that comes back has no controller, or no broker that is ready for a replica, for at most this long."""

POLL_SECONDS: Final = 0.05
_DEFAULT_REPLICATION: Final = -1
_RETENTION: Final = "retention.ms"
_MAX_BYTES: Final = "max.message.bytes"
_CLEANUP: Final = "cleanup.policy"
_MIN_IN_SYNC: Final = "min.insync.replicas"
_UNCLEAN: Final = "unclean.leader.election.enable"
_COMPRESSION: Final = "compression.type"
_CONFIGURATION: Final = (_RETENTION, _MAX_BYTES, _CLEANUP, _MIN_IN_SYNC, _UNCLEAN, _COMPRESSION)
_UNCOMPRESSED: Final = "uncompressed"
"""Workers read gzip alone. The broker unpacks what another producer has compressed, and ours compresses nothing."""
_READABLE: Final = frozenset({_UNCOMPRESSED, "gzip"})
_DEFAULT_FACTOR: Final = "default.replication.factor"

DURABLE_REPLICAS: Final = 2
"""An acknowledged message is on this many disks, where topics have as many replicas."""


@asynccontextmanager
async def open_admin(
    bootstrap_servers: str, client_id: str, request_timeout_ms: int, security: KafkaSecurity = PLAINTEXT
) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open a connected admin client. Raises `KafkaError` if no broker answers."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        request_timeout_ms=request_timeout_ms,
        **security.arguments(),
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create_topics(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Create missing topics; return when they can be used. Raises `KafkaError`, or `BrokerUnavailable` if refused."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS
    while refusals := await _try_to_create(admin, topics):
        if loop.time() > deadline or not all(map(_is_transient, refusals.values())):
            reasons = ", ".join(f"{name} ({error.__name__})" for name, error in refusals.items())
            raise BrokerUnavailable(f"Kafka refuses to create topics: {reasons}.", retry_after=RETRY_AFTER_SECONDS)
        await asyncio.sleep(POLL_SECONDS)
    # The controller knows the topics now. The brokers learn of them a moment later, without a notification.
    for topic in topics:
        while not await partitions_of(admin, topic.name):  # noqa: ASYNC110 - the broker has no event to wait for
            await asyncio.sleep(POLL_SECONDS)


async def _try_to_create(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, type[KafkaError]]:
    # A broker that has just started may know of no broker yet, itself included.
    brokers = (await admin.describe_cluster())["brokers"] if await has_controller(admin) else []
    if not brokers:
        return {topic.name: NoBrokersAvailable for topic in topics}
    configuration = await _durability(admin, brokers[0]["node_id"])
    answer = await admin.create_topics([_new_topic(topic, configuration) for topic in topics])
    errors = {name: for_code(code) for name, code, *_ in answer.topic_errors}
    return {name: error for name, error in errors.items() if error not in (NoError, TopicAlreadyExistsError)}


def _is_transient(error: type[KafkaError]) -> bool:
    # No broker may hold a replica until the brokers have registered again.
    return error.retriable or error is InvalidReplicationFactorError


async def _durability(admin: AIOKafkaAdminClient, broker: int) -> Mapping[str, str]:
    """Return the setting that refuses a message which fewer than two disks have, if topics get as many replicas."""
    default = await _describe(admin, ConfigResourceType.BROKER, str(broker), [_DEFAULT_FACTOR])
    has_replicas = int(default.get(_DEFAULT_FACTOR) or 1) >= DURABLE_REPLICAS
    return {_MIN_IN_SYNC: str(DURABLE_REPLICAS)} if has_replicas else {}


def _new_topic(topic: Topic, configuration: Mapping[str, str]) -> NewTopic:
    # aiokafka sends the default replication factor only together with a list of replicas, which may be empty.
    return NewTopic(
        topic.name,
        topic.partitions,
        _DEFAULT_REPLICATION,
        replica_assignments={},
        topic_configs={
            _RETENTION: str(topic.retention_ms),
            _MAX_BYTES: str(MAX_RECORD_BYTES),
            _COMPRESSION: _UNCOMPRESSED,
            **configuration,
        },
    )


async def partitions_of(admin: AIOKafkaAdminClient, topic: str) -> list[int]:
    """Return the partition numbers of the topic; none if it does not exist or a partition has no leader yet."""
    (found,) = await admin.describe_topics([topic])
    partitions = found["partitions"]
    return [each["partition"] for each in partitions] if all(each["leader"] >= 0 for each in partitions) else []


async def topic_states(admin: AIOKafkaAdminClient, names: Collection[str]) -> list[TopicState]:
    """Return the states of those topics that exist. Raises `KafkaError`."""
    # This lists all topics: where auto-creation is on, a request with a name creates the topic.
    found = {each["topic"]: each["partitions"] for each in await admin.describe_topics()}
    brokers = len((await admin.describe_cluster())["brokers"])
    return [
        _state(name, found[name], await _describe(admin, ConfigResourceType.TOPIC, name, _CONFIGURATION), brokers)
        for name in names
        if name in found
    ]


async def _describe(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, name: str, keys: Sequence[str]
) -> Mapping[str, str]:
    """Return settings of a topic or a broker."""
    (answer,) = await admin.describe_configs([ConfigResource(kind, name, dict.fromkeys(keys))])
    ((code, _, _, _, entries),) = answer.resources
    if code:
        raise for_code(code)
    return {key: value for key, value, *_ in entries}


def _state(name: str, partitions: list[Any], configuration: Mapping[str, str], brokers: int) -> TopicState:
    retention_ms = int(configuration[_RETENTION])
    return TopicState(
        name,
        len(partitions),
        min(len(each["replicas"]) for each in partitions),
        None if retention_ms < 0 else retention_ms,
        int(configuration[_MAX_BYTES]),
        is_compacted="compact" in configuration[_CLEANUP],
        min_in_sync_replicas=int(configuration[_MIN_IN_SYNC]),
        allows_unclean_election=configuration[_UNCLEAN] == "true",
        brokers=brokers,
        keeps_compression=configuration[_COMPRESSION] not in _READABLE,
    )
