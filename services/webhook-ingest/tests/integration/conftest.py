from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.events.topics import all_topics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_testkit.eventually import DEADLINE_SECONDS
from webhook_ingest.app import build_app
from webhook_ingest.settings import IngestSettings

SECRET = "the-secret-of-these-tests"
OLD_SECRET = "the-one-that-is-rotated-out"


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    """Settings with the embedded broker and without a database, so that no backend is needed."""
    return IngestSettings.model_validate({
        "host": "127.0.0.1",
        "port": 0,
        "database_url": f"sqlite+aiosqlite:///{tmp_path}/ingest.db",
        "kafka_bootstrap_servers": "",
        "sharegram_webhook_secret": f"{SECRET},{OLD_SECRET}",
        "spool_dir": str(tmp_path / "spool"),
        "body_timeout_seconds": 3.0,
        "shutdown_seconds": 1.0,
    })  # fmt: skip


@pytest.fixture
async def ingest_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with open_broker("", tmp_path / "log") as broker:
        await broker.create_topics(all_topics())
        yield broker


@pytest.fixture
async def port(settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[int]:
    async with run_until_failure(build_app(settings, ingest_broker, log), settings) as (port, _):
        yield port


@pytest.fixture
async def client(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
        yield session
