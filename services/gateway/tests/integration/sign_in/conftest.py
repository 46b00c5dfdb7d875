"""A gateway whose people sign in with a simulator."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from safevideo_testkit.http import Api
from safevideo_testkit.people import SITE, Browser
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorClient]:
    settings = SimulatorSettings(port=0, webhook_secret=SecretStr("a webhook secret"), seed=7)
    async with running_simulator(settings) as client:
        yield client


@pytest.fixture
def sso_settings(settings: GatewaySettings, simulator: SimulatorClient) -> GatewaySettings:
    return settings.model_copy(
        update={
            "public_url": SITE,
            "jwt_secret": SecretStr("a secret of this test, long enough"),
            "sharegram_issuer": simulator.base_url,
        }
    )


@pytest.fixture
async def site(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]], sso_settings: GatewaySettings
) -> AsyncIterator[Api]:
    """A gateway with sign-in."""
    async with start(sso_settings) as api:
        yield api


@pytest.fixture
async def performer(simulator: SimulatorClient) -> str:
    """A performer who can sign in with Sharegram."""
    profile = {"username": "jane", "displayName": "Jane", "email": "jane@example.com"}
    await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": profile, "silent": True})
    return "sg_1"


@pytest.fixture
def browser(site: Api, simulator: SimulatorClient, performer: str) -> Browser:
    return Browser(site, simulator)


@pytest.fixture
def new_browser(site: Api, simulator: SimulatorClient, performer: str) -> Callable[[], Browser]:
    return lambda: Browser(site, simulator)
