"""Kafka as this run has it: settings, and that a broker can be broken and comes back.

Three brokers are in `tests/e2e/test_ingest_ledger.py`, where two go on without the third.
"""

import asyncio
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from safevideo_common.broker import types
from safevideo_common.broker.kafka import KafkaBroker
from safevideo_devstack.backends import NotReady, probes
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.broker_helpers import DAY_MS

SECONDS = 180.0


@dataclass(frozen=True)
class Topic:
    """A topic of one partition."""

    servers: str
    name: str

    async def make(self) -> None:
        """As often as the brokers do by default; also while they still report back after an outage."""
        await KafkaBroker(self.servers).create_topics([types.Topic(self.name, 1, DAY_MS)])

    async def write(self, value: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers, acks="all") as producer:
            await asyncio.wait_for(producer.send_and_wait(self.name, value, partition=0), SECONDS)

    async def first_value(self) -> bytes | None:
        async with AIOKafkaConsumer(bootstrap_servers=self.servers) as consumer:
            consumer.assign([TopicPartition(self.name, 0)])
            await consumer.seek_to_beginning()
            record = await asyncio.wait_for(consumer.getone(), SECONDS)
        value: bytes | None = record.value
        return value


@pytest.mark.usefixtures("local")
async def test_kafka_creates_no_topics_itself_and_starts_groups_at_once(kafka_bootstrap_servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap_servers)
    await admin.start()
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
    finally:
        await admin.close()
    found = {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
    assert found["auto.create.topics.enable"] == "false"
    assert found["group.initial.rebalance.delay.ms"] == "0"
    assert found["offsets.topic.num.partitions"] == "4"


def test_frozen_kafka_answers_only_after_resume(kafka_server: RunningServer, kafka_bootstrap_servers: str) -> None:
    with kafka_server.paused():
        assert kafka_server.alive()
        with pytest.raises(NotReady):
            probes.kafka_brokers(kafka_bootstrap_servers)
    kafka_server.wait_ready()


async def test_killed_kafka_keeps_acknowledged_records(
    kafka_server: RunningServer, kafka_bootstrap_servers: str
) -> None:
    topic = Topic(kafka_bootstrap_servers, "survivors")
    await topic.make()
    await topic.write(b"acknowledged")
    await asyncio.to_thread(kafka_server.restart)
    assert await topic.first_value() == b"acknowledged"
