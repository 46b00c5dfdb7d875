"""Reading from a topic whose oldest records are gone. The embedded log's retention has a test of its own."""

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.admin import open_admin
from safevideo_testkit.broker_helpers import message, publish_all


async def test_what_was_deleted_is_not_read_and_the_start_says_so(
    kafka_log: KafkaBroker, kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    ((partition, _), *_) = await publish_all(kafka_log, [message(kafka_topic, "key", str(n)) for n in range(6)])
    async with open_admin(kafka_bootstrap_servers, "test", 5_000) as admin:
        await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset=4)})
    async with kafka_log.reader("test") as reader:
        assert (await reader.start_offsets(kafka_topic))[partition] == 4
        assert [record.offset for record in await reader.read(partition, 0, 10)] == [4, 5]
