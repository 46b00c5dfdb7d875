"""Syncs of all performers: jobs on every kind of database, with the simulator as the master."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import CallProtections, SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_testkit.harness.jobs import JobHarness
from safevideo_testkit.harness.performer_sync import Syncs
from safevideo_testkit.stacks import MIGRATED
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

API_KEY = "planted-api-key-0123456789"
SECRET_KEY = "planted-secret-key-0123456789"


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(MIGRATED[request.param])
    return url


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorClient]:
    settings = SimulatorSettings(
        port=0,
        webhook_secret=SecretStr("a webhook secret"),
        api_key=SecretStr(API_KEY),
        secret_key=SecretStr(SECRET_KEY),
        seed=7,
    )
    async with running_simulator(settings) as client:
        yield client


@pytest.fixture
def sharegram_settings(simulator: SimulatorClient) -> dict[str, object]:
    return {
        "sharegram_api_url": f"{simulator.base_url}/v1",
        "sharegram_api_key": API_KEY,
        "sharegram_secret_key": SECRET_KEY,
        "sharegram_initial_delay": 1,
        "sharegram_max_delay": 1,
        "sharegram_max_retries": 1,
    }


@pytest.fixture
async def sharegram(
    sharegram_settings: dict[str, object], database: Database, log: FilteringBoundLogger
) -> AsyncIterator[SharegramClient]:
    settings = SharegramSettings.model_validate(sharegram_settings)
    keys = StoredIdempotencyKeys(database, utc_now)
    async with open_sharegram(settings, CallProtections(), keys, CollectorRegistry(), log, utc_now) as client:
        yield client


@pytest.fixture
async def syncs(
    database: Database, simulator: SimulatorClient, sharegram: SharegramClient, log: FilteringBoundLogger
) -> Syncs:
    return Syncs(database, simulator, sharegram, JobHarness(database, log), log)
