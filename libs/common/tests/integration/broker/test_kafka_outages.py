"""Outages of Kafka: unavailable, hanging, back again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.client import COORDINATOR_TASKS
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic, next_offsets
from safevideo_common.errors import BrokerUnavailable
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.broker_helpers import (
    DAY_MS,
    answers_a_probe,
    fetch_exactly,
    message,
    publish_when_available,
    values,
)
from safevideo_testkit.eventually import eventually, ticking

MARGIN_SECONDS = 8.0
"""For a busy machine. Without the bounds under test, these calls would take minutes or never end."""


def _unused_address() -> str:
    return f"127.0.0.1:{free_port()}"


async def test_producer_fails_in_time_while_kafka_hangs_and_then_works_again(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_server: RunningServer
) -> None:
    async with kafka_broker.producer("test") as producer:
        await producer.publish(message(kafka_topic, "key", "before"))
        with kafka_server.paused():
            async with ticking() as ticks:
                sent = [producer.publish(message(kafka_topic, f"sg_{number}", "during")) for number in range(100)]
                failures = await asyncio.gather(*sent, return_exceptions=True)
            assert ticks.seconds < ACKNOWLEDGED_WITHIN_SECONDS + MARGIN_SECONDS
        assert all(isinstance(failure, BrokerUnavailable) and failure.retry_after for failure in failures)
        await publish_when_available(producer, message(kafka_topic, "key", "after"))


async def test_producer_refuses_at_once_when_too_much_is_in_flight(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_server: RunningServer
) -> None:
    async with kafka_broker.producer("test") as producer:
        await producer.publish(message(kafka_topic, "key", "before"))
        with kafka_server.paused():
            large = message(kafka_topic, "key", b"x" * 1_000_000)
            sending = [asyncio.create_task(producer.publish(large), name="test") for _ in range(100)]
            refused, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            assert sending[-1] in refused
            assert sending[0] not in refused  # it waits for its deadline
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
            assert all(isinstance(outcome, BrokerUnavailable) for outcome in outcomes)
        await publish_when_available(producer, message(kafka_topic, "key", "after"))


async def test_all_clients_close_in_time_while_kafka_hangs(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_server: RunningServer
) -> None:
    async with AsyncExitStack() as roles:
        producer = await roles.enter_async_context(kafka_broker.producer("test"))
        subscription = await roles.enter_async_context(kafka_broker.subscribe(kafka_topic, [kafka_topic], "test"))
        reader = await roles.enter_async_context(kafka_broker.reader("test"))
        await producer.publish(message(kafka_topic, "key"))
        await fetch_exactly(subscription, 1)
        await reader.end_offsets(kafka_topic)
        with kafka_server.paused():
            with pytest.raises(BrokerUnavailable):
                await producer.publish(message(kafka_topic, "key"))
            async with ticking() as ticks:
                await roles.aclose()
            assert ticks.seconds < 6.0 + MARGIN_SECONDS


async def test_probe_fails_in_time_while_kafka_hangs(kafka_broker: KafkaBroker, kafka_server: RunningServer) -> None:
    with kafka_server.paused():
        async with ticking() as ticks:
            with pytest.raises(BrokerUnavailable):
                await kafka_broker.probe()
        assert ticks.seconds < 2.0 + MARGIN_SECONDS
    await eventually(lambda: answers_a_probe(kafka_broker))


async def test_subscription_continues_after_kafka_has_hung(
    kafka_broker: KafkaBroker, kafka_topic: str, kafka_server: RunningServer
) -> None:
    async with (
        kafka_broker.producer("test") as producer,
        kafka_broker.subscribe(kafka_topic, [kafka_topic], "test") as subscription,
    ):
        await producer.publish(message(kafka_topic, "key", "before"))
        await subscription.commit(next_offsets(await fetch_exactly(subscription, 1)))
        with kafka_server.paused(), pytest.raises(BrokerUnavailable):
            await subscription.lag()
        await publish_when_available(producer, message(kafka_topic, "key", "after"))
        assert values(await fetch_exactly(subscription, 1)) == [b"after"]


async def test_all_clients_open_and_raise_without_kafka() -> None:
    broker = KafkaBroker(_unused_address())
    with pytest.raises(BrokerUnavailable):
        await broker.probe()
    with pytest.raises(BrokerUnavailable):
        await broker.create_topics([Topic("events", 1, DAY_MS)])
    async with broker.producer("test") as producer, broker.subscribe("group", ["events"], "test") as subscription:
        with pytest.raises(BrokerUnavailable):
            producer.publish(message("events", "key")).send(None)  # in its first step, without waiting
        with pytest.raises(BrokerUnavailable):
            await subscription.fetch(max_records=1, timeout=0.05)


async def test_producer_that_was_opened_before_kafka_started_works_afterwards(
    kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    address = _unused_address()
    async with KafkaBroker(address).producer("early") as producer:
        with pytest.raises(BrokerUnavailable):
            await producer.publish(message(kafka_topic, "key"))
        async with _forwarding(address, kafka_bootstrap_servers):
            await publish_when_available(producer, message(kafka_topic, "key", "late"))


async def test_aiokafka_has_the_private_attributes(kafka_topic: str, kafka_bootstrap_servers: str) -> None:
    """If this fails after an upgrade, correct `broker/kafka/client.py`: its bounded stop relies on them."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap_servers)
    member = AIOKafkaConsumer(kafka_topic, bootstrap_servers=kafka_bootstrap_servers, group_id=kafka_topic)
    reader = AIOKafkaConsumer(kafka_topic, bootstrap_servers=kafka_bootstrap_servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap_servers)
    async with AsyncExitStack() as stack:
        for client, stop in (
            (producer, producer.stop),
            (member, member.stop),
            (reader, reader.stop),
            (admin, admin.close),
        ):
            stack.push_async_callback(stop)
            await client.start()
        assert callable(producer._message_accumulator.fail_all)
        assert isinstance(producer._sender.sender_task, asyncio.Task)
        assert {*vars(member._coordinator), *vars(reader._coordinator)} >= set(COORDINATOR_TASKS)
        assert {*vars(member._coordinator)} >= {"_client", "coordinator_id", "group_id", "member_id"}
        assert isinstance(reader._fetcher._fetch_task, asyncio.Task)
        assert isinstance(reader._fetcher._pending_tasks, set)
        assert admin._client.cluster.controller is not None
        for client in (producer.client, reader._client):
            assert "_md_update_fut" in vars(client)


@asynccontextmanager
async def _forwarding(address: str, servers: str) -> AsyncIterator[None]:
    """Forward `address` to the broker, which refers its clients to its own address."""

    async def pump(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65536):
            to.write(chunk)
        to.close()
        await to.wait_closed()

    async def forward(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(*servers.split(",")[0].split(":"))
        async with asyncio.TaskGroup() as both:
            both.create_task(pump(near, to_far))
            both.create_task(pump(far, to_near))

    async with await asyncio.start_server(forward, *address.split(":")):
        yield
