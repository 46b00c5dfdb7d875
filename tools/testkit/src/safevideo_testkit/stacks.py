"""Fixtures for tests of whole services: a migrated database, a log with our topics, and where the lines are written.

A test that uses `stack` runs twice: on the embedded stack, and on a real Kafka with a real MySQL-family server. The
topics of the real one are shared by all tests of the run, so tests name performers and events of their own.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import all_topics
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import FilteringBoundLogger, build_logger

REAL = pytest.param("real", marks=(pytest.mark.kafka, pytest.mark.mysql))


@dataclass(frozen=True, slots=True)
class StackUnderTest:
    """Addresses as the settings want them. `log_folder` stands for Kafka where `kafka_bootstrap_servers` is empty."""

    database_url: str
    redis_url: str
    kafka_bootstrap_servers: str
    log_folder: Path


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
async def database_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own, as after the last migration."""
    url = _fresh_database(request, request.param)
    await migrate(url)
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The database at `database_url`."""
    async with Database.open(database_url) as opened:
        yield opened


@pytest.fixture(params=["embedded", REAL])
async def stack(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> StackUnderTest:
    """One stack, migrated, with the topics of the contract."""
    is_real = request.param == "real"
    bootstrap = request.getfixturevalue("kafka_bootstrap_servers") if is_real else ""
    url = _fresh_database(request, "mysql" if is_real else "sqlite")
    await migrate(url)
    return StackUnderTest(url, redis_url, bootstrap, tmp_path / "log")


@pytest.fixture
async def broker(stack: StackUnderTest) -> AsyncIterator[Broker]:
    """The log of `stack`, with its topics."""
    async with open_broker(stack.kafka_bootstrap_servers, stack.log_folder) as log:
        await log.create_topics(all_topics())
        yield log


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder of the text logs that `log` writes."""
    return tmp_path / "logs"


@pytest.fixture
def log(logs: Path) -> Iterator[FilteringBoundLogger]:
    """A logger as services have it."""
    sink = LogSink(logs, stdout=False)
    yield build_logger("test", sink)
    sink.close()


@pytest.fixture
def quiet_kafka_client() -> Iterator[None]:
    """For tests in which brokers come and go: aiokafka would fill the report of a failure with it."""
    client = logging.getLogger("aiokafka")
    before = client.level
    client.setLevel(logging.CRITICAL)
    yield
    client.setLevel(before)


def _fresh_database(request: pytest.FixtureRequest, kind: str) -> str:
    url: str = request.getfixturevalue("fresh_mysql_database" if kind == "mysql" else "fresh_sqlite_url")
    return url
