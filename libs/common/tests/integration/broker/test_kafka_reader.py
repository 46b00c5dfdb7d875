"""Reading from a Kafka topic whose oldest records are deleted. The embedded broker's retention has its own test."""

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.admin import open_admin
from safevideo_testkit.broker_helpers import message, publish_in_order


async def test_reader_starts_at_the_oldest_record_after_a_deletion(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    ((partition, _), *_) = await publish_in_order(kafka_broker, [message(kafka_topic, "key", str(n)) for n in range(6)])
    async with open_admin(kafka_bootstrap_servers, "test", 5_000) as admin:
        await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset=4)})
    async with kafka_broker.reader("test") as reader:
        assert (await reader.start_offsets(kafka_topic))[partition] == 4
        assert [record.offset for record in await reader.read(partition, 0, 10)] == [4, 5]
