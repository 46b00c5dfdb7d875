"""Sign-in while Redis, the database or the provider does not answer: 503 and never 401, and no cookie is taken away."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.settings import GatewaySettings
from safevideo_common.auth.authentication import SESSION_COOKIE
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api
from safevideo_testkit.people import SSO, Browser, bearer, signed_in, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

PERFORMER = "/api/v1/performers/1"
ON_MYSQL = pytest.mark.parametrize("database_kind", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


async def all_is_well_again(browser: Browser) -> None:
    async def has_session() -> bool:
        return (await browser.get(PERFORMER)).status == 404

    await eventually(has_session)


async def test_without_redis_sessions_are_503_and_stay(
    browser: Browser, simulator: SimulatorClient, redis_server: RunningServer
) -> None:
    site = browser.site
    data, token = await signed_in(site, simulator), await token_of(simulator)
    callback = await browser.approve(await browser.begin(), "sg_1")
    await browser.sign_in()
    with redis_server.paused():
        assert outcome(await unified_login(site, token)) == (503, "SSO_AUTH_FAILED")
        assert outcome(await site.get(PERFORMER, bearer(data))) == (503, "SERVICE_UNAVAILABLE")
        by_cookie = await browser.get(PERFORMER)
        assert outcome(by_cookie) == (503, "SERVICE_UNAVAILABLE")
        assert "Set-Cookie" not in by_cookie.headers
        assert outcome(await browser.post(f"{SSO}/logout")) == (503, "SERVICE_UNAVAILABLE")
        assert outcome(await site.get(f"{SSO}/session/verify?sessionId=x")) == (503, "SERVICE_UNAVAILABLE")
        for path in (f"{SSO}/login", callback):
            answer = await browser.get(path)
            assert (answer.status, "Location" in answer.headers) == (503, False)
            assert b"SSO_AUTH_FAILED" in answer.body
        refused = {"url": f"{site.base_url}{SSO}/backchannel-logout", "sub": "sg_1"}
        assert (await simulator.post("/_sim/logout", refused))["status"] == 503
        assert SESSION_COOKIE in browser.cookies
        assert (await site.get(PERFORMER, {"Authorization": "Bearer wrong"})).code == "UNAUTHORIZED"
    await all_is_well_again(browser)
    assert (await site.get(PERFORMER, bearer(data))).status == 404


@ON_MYSQL
async def test_without_the_database_sign_in_is_503_and_sessions_stay(
    browser: Browser, simulator: SimulatorClient, mysql_server: RunningServer
) -> None:
    site, token = browser.site, await token_of(simulator)
    assert (await unified_login(site, token)).status == 200
    await browser.sign_in()
    with mysql_server.killed():
        assert outcome(await unified_login(site, token)) == (503, "SSO_AUTH_FAILED")
        answer = await browser.sign_in()
        assert (answer.status, b"SSO_AUTH_FAILED" in answer.body) == (503, True)
        # The role of a person who was there a moment ago is cached; of another one it cannot be read.
        assert (await browser.get(PERFORMER)).status == 503
        assert SESSION_COOKIE in browser.cookies
    await all_is_well_again(browser)


async def test_without_the_provider_known_keys_go_on_and_the_browser_gets_the_page(
    site: Api, simulator: SimulatorClient, browser: Browser
) -> None:
    token = await token_of(simulator)
    assert (await unified_login(site, token)).status == 200
    await simulator.put("/_sim/faults", {"mode": "errors"})
    assert (await unified_login(site, token)).status == 200
    answer = await browser.get(f"{SSO}/login")
    if answer.status == 302:  # discovery was fetched with the keys
        callback = f"{SSO}/callback?code=x&state={answer.headers['Location'].partition('state=')[2].partition('&')[0]}"
        answer = await browser.get(f"{callback}&iss={simulator.base_url}")
    assert (answer.status, b"SSO_AUTH_FAILED" in answer.body) == (503, True)


async def test_gateway_starts_without_the_provider_and_says_that_nobody_can_sign_in(
    start: Start, sso_settings: GatewaySettings, simulator: SimulatorClient
) -> None:
    token = await token_of(simulator)
    await simulator.put("/_sim/faults", {"mode": "errors"})
    async with start(sso_settings) as api:
        assert outcome(await unified_login(api, token)) == (503, "SSO_AUTH_FAILED")
        assert (await api.get("/readyz")).status == 200
        await simulator.put("/_sim/faults", {"mode": "ok"})

        async def signs_in() -> bool:
            return (await unified_login(api, token)).status == 200

        await eventually(signs_in)
