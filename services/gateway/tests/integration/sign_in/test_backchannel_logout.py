"""The provider signs a person out: what a logout token ends, and what it must not end."""

from typing import Any
from urllib.parse import urlencode

from safevideo_testkit.http import Answer, Api, Json
from safevideo_testkit.people import SSO, Browser, bearer, signed_in, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

PATH = f"{SSO}/backchannel-logout"
PERFORMER = "/api/v1/performers/1"
EVENT = "http://schemas.openid.net/event/backchannel-logout"


async def is_signed_in(site: Api, data: Json) -> bool:
    return (await site.get(PERFORMER, bearer(data))).status == 404


async def logout(site: Api, simulator: SimulatorClient, **order: object) -> Json:
    answer: Json = await simulator.post("/_sim/logout", {"url": site.base_url + PATH, **order})
    return answer


async def send(site: Api, body: str, content_type: str = "application/x-www-form-urlencoded") -> Answer:
    async with site.session.post(site.base_url + PATH, data=body, headers={"Content-Type": content_type}) as response:
        return Answer(response.status, response.headers, await response.read())


async def test_token_of_a_sid_ends_that_session_only(site: Api, simulator: SimulatorClient) -> None:
    first, second = await signed_in(site, simulator, sid="s1"), await signed_in(site, simulator, sid="s2")
    assert (await logout(site, simulator, sub="sg_1", sid="s1"))["status"] == 200
    assert (await is_signed_in(site, first), await is_signed_in(site, second)) == (False, True)


async def test_token_of_a_subject_ends_all_their_sessions_and_nobody_elses(
    site: Api, simulator: SimulatorClient
) -> None:
    mine = [await signed_in(site, simulator, sid=sid) for sid in ("s1", None)]
    other = await signed_in(site, simulator, sub="sg_2", email="ann@example.com")
    assert (await logout(site, simulator, sub="sg_1"))["status"] == 200
    assert [await is_signed_in(site, each) for each in (*mine, other)] == [False, False, True]


async def test_token_of_a_subject_leaves_newer_sessions(site: Api, simulator: SimulatorClient) -> None:
    data = await signed_in(site, simulator)
    answer = await logout(site, simulator, sub="sg_1", claims={"iat": 1_700_000_000})
    assert answer["status"] == 200
    assert await is_signed_in(site, data)


async def test_token_that_names_nobody_of_ours_is_fine(site: Api, simulator: SimulatorClient) -> None:
    assert (await logout(site, simulator, sub="sg_nobody"))["status"] == 200
    assert (await logout(site, simulator, sid="s'\" *\n"))["status"] == 200


async def test_token_is_good_once(site: Api, simulator: SimulatorClient) -> None:
    token = (await logout(site, simulator, sub="sg_1"))["token"]
    answer = await send(site, urlencode({"logout_token": token}))
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert answer.json["error"]["details"] == {"reason": "replayed"}


INVALID: list[dict[str, Any]] = [
    {"sub": None},
    {"sub": "sg_1", "claims": {"nonce": "n"}},
    {"sub": "sg_1", "claims": {"events": None}},
    {"sub": "sg_1", "claims": {"events": {EVENT: "x"}}},
    {"sub": "sg_1", "claims": {"jti": None}},
    {"sub": "sg_1", "claims": {"iat": None}},
    {"sub": "sg_1", "claims": {"exp": None}},
    {"sub": "sg_1", "claims": {"exp": 1_700_000_000}},
    {"sub": "sg_1", "claims": {"aud": "another"}},
    {"sub": "sg_1", "claims": {"iss": "https://evil.example"}},
    {"sub": "sg_1", "header": {"typ": "at+jwt"}},
    {"sub": "sg_1", "header": {"kid": "unknown"}},
    {"sub": "sg_1", "header": {"alg": "none"}},
]


async def test_invalid_token_is_400_and_ends_nothing(site: Api, simulator: SimulatorClient) -> None:
    data = await signed_in(site, simulator)
    for order in INVALID:
        assert (await logout(site, simulator, **order))["status"] == 400, order
    assert await is_signed_in(site, data)


FORMS = ["", "logout_token=", "logout_token=x", "logout_token=a&logout_token=b", "x" * 20_000]


async def test_form_without_one_token_is_400(site: Api) -> None:
    for body in FORMS:
        answer = await send(site, body)
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), body
        assert answer.headers["Content-Type"].startswith("application/json")


async def test_body_that_is_no_form_is_400(site: Api, simulator: SimulatorClient) -> None:
    token = (await logout(site, simulator, sub="sg_1"))["token"]
    assert (await send(site, f'{{"logout_token": "{token}"}}', "application/json")).code == "VALIDATION_ERROR"


async def test_access_token_is_no_logout_token(site: Api, simulator: SimulatorClient) -> None:
    answer = await send(site, urlencode({"logout_token": await token_of(simulator)}))
    assert answer.json["error"]["details"] == {"reason": "type"}


async def test_sid_that_was_signed_out_during_its_sign_in_gets_no_session(
    site: Api, simulator: SimulatorClient
) -> None:
    token = await token_of(simulator, sid="s1")
    assert (await logout(site, simulator, sid="s1"))["status"] == 200
    answer = await unified_login(site, token)
    assert (answer.status, answer.code) == (401, "SSO_AUTH_FAILED")
    assert await is_signed_in(site, await signed_in(site, simulator, sid="s2"))


async def test_browser_is_signed_out_by_the_provider(browser: Browser, simulator: SimulatorClient) -> None:
    await browser.sign_in()
    assert (await browser.get(PERFORMER)).status == 404
    assert (await logout(browser.site, simulator, sub="sg_1"))["status"] == 200
    assert (await browser.get(PERFORMER)).code == "UNAUTHORIZED"
