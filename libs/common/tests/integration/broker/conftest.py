"""Both brokers, under one name."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Topic
from safevideo_testkit.broker_helpers import DAY_MS, PARTITIONS


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    servers = request.getfixturevalue("kafka_bootstrap_servers") if request.param == "kafka" else ""
    async with open_broker(servers, tmp_path / "broker") as opened:
        yield opened


@pytest.fixture
async def topic(broker: Broker) -> str:
    """A topic of the test's own."""
    return await _create_topic(broker)


@pytest.fixture
def kafka_broker(kafka_bootstrap_servers: str) -> KafkaBroker:
    """Kafka alone."""
    return KafkaBroker(kafka_bootstrap_servers)


@pytest.fixture
async def kafka_topic(kafka_broker: KafkaBroker) -> str:
    """A topic of the test's own on Kafka."""
    return await _create_topic(kafka_broker)


@pytest.fixture
def group() -> str:
    """A consumer group of the test's own."""
    return f"test-{secrets.token_hex(6)}"


async def _create_topic(broker: Broker) -> str:
    name = f"test-{secrets.token_hex(6)}"
    await broker.create_topics([Topic(name, PARTITIONS, DAY_MS)])
    return name
