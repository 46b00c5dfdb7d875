"""Fixtures for tests of whole services: a migrated database, a broker with our topics, and a logger.

A test that uses `stack` runs twice: on the embedded stack, and on a real Kafka with a real MySQL-family server. All
tests of a run share the topics of the real one, so tests use performers and event ids of their own.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import all_topics
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import FilteringBoundLogger, build_logger

REAL = pytest.param("real", marks=(pytest.mark.kafka, pytest.mark.mysql))
MIGRATED = {"sqlite": "migrated_sqlite_url", "mysql": "migrated_mysql_database"}
"""The fixture with a migrated database of each kind."""


@dataclass(frozen=True, slots=True)
class StackUnderTest:
    """The addresses of a stack. Without `kafka_bootstrap_servers`, its broker is embedded in `log_folder`."""

    database_url: str
    redis_url: str
    kafka_bootstrap_servers: str
    log_folder: Path


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a migrated database of the test's own."""
    url: str = request.getfixturevalue(MIGRATED[request.param])
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open the database at `database_url`."""
    async with Database.open(database_url) as opened:
        yield opened


@pytest.fixture(params=["embedded", REAL])
def stack(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> StackUnderTest:
    """Return a stack with a migrated database of the test's own."""
    is_real = request.param == "real"
    bootstrap = request.getfixturevalue("kafka_bootstrap_servers") if is_real else ""
    url = request.getfixturevalue(MIGRATED["mysql" if is_real else "sqlite"])
    return StackUnderTest(url, redis_url, bootstrap, tmp_path / "log")


@pytest.fixture
async def broker(stack: StackUnderTest) -> AsyncIterator[Broker]:
    """Open the broker of `stack` and create its topics."""
    async with open_broker(stack.kafka_bootstrap_servers, stack.log_folder) as broker:
        await broker.create_topics(all_topics())
        yield broker


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return the folder of the log files that `log` writes."""
    return tmp_path / "logs"


@pytest.fixture(name="log")
def logger(logs: Path) -> Iterator[FilteringBoundLogger]:
    """Return a logger like that of a service."""
    sink = LogSink(logs, stdout=False)
    yield build_logger("test", sink)
    sink.close()


@pytest.fixture
def quiet_kafka_client() -> Iterator[None]:
    """Silence aiokafka, which fills the report of a failure if brokers stop and start."""
    client = logging.getLogger("aiokafka")
    before = client.level
    client.setLevel(logging.CRITICAL)
    yield
    client.setLevel(before)
