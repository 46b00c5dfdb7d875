"""A partition that one broker alone has. When that broker is killed, the partition has no leader until it is back."""

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from safevideo_common.broker.types import TopicPartition
from safevideo_testkit.eventually import eventually

ANSWER_MS = 30_000


async def move_partition(kafka_servers: str, partition: TopicPartition, broker: int) -> None:
    """Make `broker` the only replica of a partition; return when it is so. The other partitions keep theirs."""
    client = AIOKafkaClient(bootstrap_servers=kafka_servers)
    await client.bootstrap()
    try:
        moved: Any = (partition.topic, [(partition.partition, [broker], {})], {})
        request = AlterPartitionReassignmentsRequest(ANSWER_MS, [moved], {})
        answer = await client.send(client.get_random_node(), request)
        assert not answer.error_code, answer
        assert not any(code for _, partitions, _ in answer.responses for _, code, *_ in partitions), answer
    finally:
        await client.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()

    async def is_moved() -> bool:
        (topic,) = await admin.describe_topics([partition.topic])
        found = next(each for each in topic["partitions"] if each["partition"] == partition.partition)
        return (list(found["replicas"]), found["leader"]) == ([broker], broker)

    try:
        await eventually(is_moved)
    finally:
        await admin.close()
