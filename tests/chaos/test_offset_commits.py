"""The check of committed offsets sees a commit of a lower offset, which Kafka accepts."""

import secrets

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Topic
from safevideo_testkit.broker_helpers import DAY_MS
from safevideo_testkit.chaos.lag_probe import OffsetCommits


async def test_a_commit_of_a_lower_offset_is_seen(kafka_bootstrap_servers: str) -> None:
    broker, topic, group = KafkaBroker(kafka_bootstrap_servers), *(f"test-{secrets.token_hex(6)}" for _ in range(2))
    await broker.create_topics([Topic(topic, 2, DAY_MS)])
    commits = await OffsetCommits.since_now(broker)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([KafkaPartition(topic, 0), KafkaPartition(topic, 1)])
        for partition, offset in ((0, 5), (1, 3), (0, 9), (0, 9), (1, 4), (0, 7), (0, 8)):
            await consumer.commit({KafkaPartition(topic, partition): offset})
    finally:
        await consumer.stop()
    await commits.read({group})
    assert commits.count == 7
    assert commits.decreases == [f"{group} {topic}/0: from 9 to 7"]
