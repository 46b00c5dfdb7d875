"""Topics, and whether Kafka answers."""

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
from safevideo_common.broker.types import MAX_RECORD_BYTES, Topic, TopicState
from safevideo_common.errors import BrokerUnavailable

CREATE_SECONDS: Final = 15.0
SETTLES_SECONDS: Final = 10.0
"""A cluster that was away has no controller, or no broker that this counts as present, for as long as this at most."""

PROBE_SECONDS: Final = 2.0
LOOK_AGAIN_SECONDS: Final = 0.05
_BROKERS_CHOICE: Final = -1


@asynccontextmanager
async def open_admin(
    bootstrap_servers: str, client_id: str, request_timeout_ms: int
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises `KafkaError` when no broker answers."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers, client_id=client_id, request_timeout_ms=request_timeout_ms
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Create missing topics; return when they can be used. Raise `KafkaError`, or `BrokerUnavailable` for a refusal."""
    await _accepted(admin, topics)
    # The controller knows them by now; the brokers hear of it a moment later and tell nobody when.
    for topic in topics:
        while not await partitions_of(admin, topic.name):  # noqa: ASYNC110 - the broker has no event to wait for
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _accepted(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    loop = asyncio.get_running_loop()
    settled = loop.time() + SETTLES_SECONDS
    while refusals := await _refusals(admin, topics):
        if loop.time() > settled or not all(map(_may_pass, refusals.values())):
            reasons = ", ".join(f"{name} ({error.__name__})" for name, error in refusals.items())
            raise BrokerUnavailable(f"Kafka refuses to create topics: {reasons}.", retry_after=RETRY_AFTER_SECONDS)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _refusals(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, type[KafkaError]]:
    client = admin._client  # aiokafka does not expect a cluster without a controller: it would raise AttributeError
    if client.cluster.controller is None:
        await client.force_metadata_update()
    if client.cluster.controller is None:
        return {topic.name: NoBrokersAvailable for topic in topics}
    answer = await admin.create_topics([_new(topic) for topic in topics])
    errors = {name: for_code(code) for name, code, *_ in answer.topic_errors}
    return {name: error for name, error in errors.items() if error not in (NoError, TopicAlreadyExistsError)}


def _may_pass(error: type[KafkaError]) -> bool:
    # No broker may hold a replica while all of them still have to report back.
    return error.retriable or error is InvalidReplicationFactorError


async def partitions_of(admin: AIOKafkaAdminClient, topic: str) -> list[int]:
    """The numbers of the topic's partitions; none when it does not exist, or when one of them has no leader yet."""
    (found,) = await admin.describe_topics([topic])
    partitions = found["partitions"]
    return [each["partition"] for each in partitions] if all(each["leader"] >= 0 for each in partitions) else []


def _new(topic: Topic) -> NewTopic:
    # aiokafka takes the replication factor of the broker only beside a list of replicas, which may be empty.
    return NewTopic(
        topic.name,
        topic.partitions,
        _BROKERS_CHOICE,
        replica_assignments={},
        topic_configs={"retention.ms": str(topic.retention_ms), "max.message.bytes": str(MAX_RECORD_BYTES)},
    )


# What Kafka says of its topics.


DESCRIBE_SECONDS: Final = 10.0
_RETENTION: Final = "retention.ms"
_LARGEST: Final = "max.message.bytes"
_CLEANUP: Final = "cleanup.policy"


async def topic_states(admin: AIOKafkaAdminClient, names: Collection[str]) -> list[TopicState]:
    """Those that exist. Raises `KafkaError`."""
    # All are asked for: a question by name creates the topic where brokers create what is asked for.
    found = {each["topic"]: each["partitions"] for each in await admin.describe_topics()}
    return [_state(name, found[name], await _configuration(admin, name)) for name in names if name in found]


async def _configuration(admin: AIOKafkaAdminClient, name: str) -> Mapping[str, str]:
    asked = dict.fromkeys((_RETENTION, _LARGEST, _CLEANUP))
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, asked)])
    ((code, _, _, _, entries),) = answer.resources
    if code:
        raise for_code(code)
    return {key: value for key, value, *_ in entries}


def _state(name: str, partitions: list[Any], configuration: Mapping[str, str]) -> TopicState:
    retention_ms = int(configuration[_RETENTION])
    return TopicState(
        name,
        len(partitions),
        min(len(each["replicas"]) for each in partitions),
        None if retention_ms < 0 else retention_ms,
        int(configuration[_LARGEST]),
        is_compacted="compact" in configuration[_CLEANUP],
    )
