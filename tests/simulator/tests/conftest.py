from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import PartnerCaller, ScriptedReceiver, running_simulator


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver().running() as running:
        yield running


@pytest.fixture
def settings(receiver: ScriptedReceiver) -> SimulatorSettings:
    return SimulatorSettings(
        port=0,
        webhook_url=receiver.url,
        webhook_secret=SecretStr("a webhook secret"),
        api_key=SecretStr("an api key"),
        secret_key=SecretStr("a secret key"),
        retry_factor=0.0001,
        seed=7,
    )


@pytest.fixture
async def simulator(settings: SimulatorSettings) -> AsyncIterator[SimulatorClient]:
    async with running_simulator(settings) as client:
        yield client


@pytest.fixture
def partner(simulator: SimulatorClient) -> PartnerCaller:
    return PartnerCaller(simulator, "an api key", "a secret key")
