"""A second provider is configuration. Its people are not those of the first, whatever it calls them."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from safevideo_testkit.http import Api
from safevideo_testkit.people import SSO, Browser, bearer, token_of, unified_login
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


@pytest.fixture
async def other() -> AsyncIterator[SimulatorClient]:
    settings = SimulatorSettings(port=0, webhook_secret=SecretStr("a webhook secret"), audience="theirs")
    async with running_simulator(settings) as client:
        yield client


async def test_second_provider_signs_in_its_own_people(
    start: Start, sso_settings: GatewaySettings, simulator: SimulatorClient, other: SimulatorClient, performer: str
) -> None:
    configured = json.dumps({"other": {"issuer": other.base_url, "audience": "theirs"}})
    async with start(sso_settings.model_copy(update={"sso_providers": configured})) as site:
        status = (await site.get(f"{SSO}/integration-status")).json["data"]["providers"]
        assert status["other"] == {"enabled": True, "configured": True}

        ours, theirs = await token_of(simulator), await token_of(other, email="ann@example.com")
        mine = (await unified_login(site, ours)).json["data"]
        hers = (await unified_login(site, theirs, "other")).json["data"]
        assert mine["user"]["id"] != hers["user"]["id"]  # though both are `sg_1`
        assert hers["user"]["ssoProvider"] == "other"

        for token, provider in ((ours, "other"), (theirs, "sharegram")):
            assert (await unified_login(site, token, provider)).code == "INVALID_SHAREGRAM_TOKEN"
        same_email = await token_of(other, sub="sg_9", email="jane@example.com")
        answer = await unified_login(site, same_email, "other")  # it may not link
        assert (answer.status, answer.code) == (409, "USER_MAPPING_CONFLICT")

        logout = {"url": f"{site.base_url}{SSO}/backchannel-logout", "sub": "sg_1"}
        assert (await other.post("/_sim/logout", logout))["status"] == 200
        assert (await site.get("/api/v1/performers/1", bearer(hers))).status == 401
        assert (await site.get("/api/v1/performers/1", bearer(mine))).status == 404

        browser = Browser(site, simulator)  # whose callback is answered by the wrong one
        callback = await browser.approve(await browser.begin(), performer)
        mixed = callback.replace(simulator.base_url.rpartition(":")[2], other.base_url.rpartition(":")[2])
        assert mixed != callback
        assert (await browser.get(mixed)).status == 401


async def test_logout_token_is_of_the_provider_whose_audience_it_names(
    start: Start, sso_settings: GatewaySettings, simulator: SimulatorClient, performer: str
) -> None:
    """Two clients of one issuer: as one of a company's apps and another."""
    configured = json.dumps({"staff": {"issuer": simulator.base_url, "audience": "staff"}})
    async with start(sso_settings.model_copy(update={"sso_providers": configured})) as site:
        order = {"url": f"{site.base_url}{SSO}/backchannel-logout", "sub": performer}
        for audience in ("safevideo", "staff", ["other", "staff"]):
            data = (await unified_login(site, await token_of(simulator))).json["data"]
            assert (await simulator.post("/_sim/logout", {**order, "claims": {"aud": audience}}))["status"] == 200
            assert (await site.get("/api/v1/performers/1", bearer(data))).status == 401
        data = (await unified_login(site, await token_of(simulator))).json["data"]
        for claims in ({"aud": "neither"}, {"aud": "staff", "exp": 1_700_000_000}):
            assert (await simulator.post("/_sim/logout", {**order, "claims": claims}))["status"] == 400
        assert (await site.get("/api/v1/performers/1", bearer(data))).status == 404
