"""What Kafka says of its topics."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from safevideo_common.messaging.port import TopicState

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
