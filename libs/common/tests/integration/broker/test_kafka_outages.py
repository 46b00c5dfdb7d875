"""What only Kafka can do to us: be away, hang and come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import Topic
from safevideo_common.errors import BrokerUnavailable
from safevideo_devstack.backends import RunningBackends
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.broker_helpers import (
    DAY_MS,
    after,
    fetch_exactly,
    message,
    publish_when_possible,
    values,
)
from safevideo_testkit.eventually import ticking

MARGIN_SECONDS = 8.0
"""What these tests are about would take minutes, if it ended at all."""


@contextmanager
def hanging(backends: RunningBackends) -> Iterator[None]:
    """The broker is frozen: connections stay open and nothing answers."""
    try:
        broker = backends.kafka
    except LookupError as error:
        pytest.skip(str(error))
    with broker.paused():
        yield


def _unused_address() -> str:
    return f"127.0.0.1:{free_port()}"


async def test_while_the_broker_hangs_publishing_fails_in_time_and_then_works_again(
    kafka_log: KafkaBroker, kafka_topic: str, backends: RunningBackends
) -> None:
    async with kafka_log.publisher("test") as publisher:
        await publisher.publish(message(kafka_topic, "key", "before"))
        with hanging(backends):
            async with ticking() as ticks:
                sent = [publisher.publish(message(kafka_topic, f"sg_{number}", "during")) for number in range(100)]
                failures = await asyncio.gather(*sent, return_exceptions=True)
            assert ticks.seconds < ACKNOWLEDGED_WITHIN_SECONDS + MARGIN_SECONDS
        assert all(isinstance(failure, BrokerUnavailable) and failure.retry_after for failure in failures)
        await publish_when_possible(publisher, message(kafka_topic, "key", "after"))


async def test_while_the_broker_hangs_the_backlog_fills_and_refuses_at_once(
    kafka_log: KafkaBroker, kafka_topic: str, backends: RunningBackends
) -> None:
    async with kafka_log.publisher("test") as publisher:
        await publisher.publish(message(kafka_topic, "key", "before"))
        with hanging(backends):
            large = message(kafka_topic, "key", b"x" * 1_000_000)
            sending = [asyncio.create_task(publisher.publish(large), name="test") for _ in range(100)]
            async with ticking() as ticks:
                await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            assert ticks.seconds < ACKNOWLEDGED_WITHIN_SECONDS
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
            assert all(isinstance(outcome, BrokerUnavailable) for outcome in outcomes)
        await publish_when_possible(publisher, message(kafka_topic, "key", "after"))


async def test_everything_can_be_left_in_time_while_the_broker_hangs(
    kafka_log: KafkaBroker, kafka_topic: str, backends: RunningBackends
) -> None:
    async with AsyncExitStack() as roles:
        publisher = await roles.enter_async_context(kafka_log.publisher("test"))
        subscription = await roles.enter_async_context(kafka_log.subscribe(kafka_topic, [kafka_topic], "test"))
        reader = await roles.enter_async_context(kafka_log.reader("test"))
        await publisher.publish(message(kafka_topic, "key"))
        await fetch_exactly(subscription, 1)
        await reader.end_offsets(kafka_topic)
        with hanging(backends):
            with pytest.raises(BrokerUnavailable):
                await publisher.publish(message(kafka_topic, "key"))
            async with ticking() as ticks:
                await roles.aclose()
            assert ticks.seconds < 6.0 + MARGIN_SECONDS


async def test_a_probe_fails_in_time_while_the_broker_hangs(kafka_log: KafkaBroker, backends: RunningBackends) -> None:
    with hanging(backends):
        async with ticking() as ticks:
            with pytest.raises(BrokerUnavailable):
                await kafka_log.probe()
        assert ticks.seconds < 2.0 + MARGIN_SECONDS
    await kafka_log.probe()


async def test_a_subscription_gets_on_after_the_broker_has_hung(
    kafka_log: KafkaBroker, kafka_topic: str, backends: RunningBackends
) -> None:
    async with (
        kafka_log.publisher("test") as publisher,
        kafka_log.subscribe(kafka_topic, [kafka_topic], "test") as subscription,
    ):
        await publisher.publish(message(kafka_topic, "key", "before"))
        await subscription.commit(after(await fetch_exactly(subscription, 1)))
        with hanging(backends), pytest.raises(BrokerUnavailable):
            await subscription.lag()
        await publish_when_possible(publisher, message(kafka_topic, "key", "after"))
        assert values(await fetch_exactly(subscription, 1)) == [b"after"]


async def test_without_a_broker_everything_can_be_entered_and_refuses() -> None:
    log = KafkaBroker(_unused_address())
    with pytest.raises(BrokerUnavailable):
        await log.probe()
    with pytest.raises(BrokerUnavailable):
        await log.create_topics([Topic("events", 1, DAY_MS)])
    async with log.publisher("test") as publisher, log.subscribe("group", ["events"], "test") as subscription:
        async with ticking() as ticks:
            with pytest.raises(BrokerUnavailable):
                await publisher.publish(message("events", "key"))
        assert ticks.seconds < ACKNOWLEDGED_WITHIN_SECONDS
        with pytest.raises(BrokerUnavailable):
            await subscription.fetch(max_records=1, timeout=0.05)


async def test_a_publisher_that_came_before_the_broker_works_once_it_is_there(
    kafka_topic: str, kafka_bootstrap_servers: str
) -> None:
    address = _unused_address()
    async with KafkaBroker(address).publisher("early") as publisher:
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(message(kafka_topic, "key"))
        async with _forwarding(address, kafka_bootstrap_servers):
            await publish_when_possible(publisher, message(kafka_topic, "key", "late"))


@asynccontextmanager
async def _forwarding(address: str, servers: str) -> AsyncIterator[None]:
    """At `address` something answers as the broker does: it sends its clients on to the broker's own address."""

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
