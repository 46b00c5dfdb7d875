"""Both logs, under one name."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safevideo_common.messaging.factory import open_log
from safevideo_common.messaging.kafka import KafkaLog
from safevideo_common.messaging.port import EventLog, Topic
from safevideo_common.testing.log_steps import DAY_MS, PARTITIONS


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    servers = request.getfixturevalue("kafka_bootstrap_servers") if request.param == "kafka" else ""
    async with open_log(servers, tmp_path / "log") as opened:
        yield opened


@pytest.fixture
async def topic(log: EventLog) -> str:
    """A topic of the test's own."""
    return await _created(log)


@pytest.fixture
def kafka_log(kafka_bootstrap_servers: str) -> KafkaLog:
    """Kafka alone."""
    return KafkaLog(kafka_bootstrap_servers)


@pytest.fixture
async def kafka_topic(kafka_log: KafkaLog) -> str:
    """A topic of the test's own on Kafka."""
    return await _created(kafka_log)


@pytest.fixture
def group() -> str:
    """A consumer group of the test's own."""
    return f"test-{secrets.token_hex(6)}"


async def _created(log: EventLog) -> str:
    name = f"test-{secrets.token_hex(6)}"
    await log.create_topics([Topic(name, PARTITIONS, DAY_MS)])
    return name
