"""Sign-in in a browser: to the provider and back, what can go wrong on the way, and that nothing loops."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest
from yarl import URL

from gateway.sign_in.cookies import MAX_PENDING, PENDING_PREFIX, SIGNED_OUT_COOKIE
from safevideo_common.auth.authentication import SESSION_COOKIE
from safevideo_testkit.http import Answer, Api
from safevideo_testkit.people import SITE, SSO, Browser
from sharegram_simulator.client import SimulatorClient

PERFORMER = "/api/v1/performers/1"


async def has_session(browser: Browser) -> bool:
    return (await browser.get(PERFORMER)).status == 404


def is_failure_page(answer: Answer, code: str = "SSO_AUTH_FAILED") -> bool:
    page = answer.body.decode()
    return (
        answer.headers["Content-Type"].startswith("text/html")
        and "Location" not in answer.headers
        and "Refresh" not in answer.headers
        and "http-equiv" not in page
        and "<script" not in page
        and answer.headers["Cache-Control"] == "no-store"
        and answer.headers["X-Request-Id"] in page
        and code in page
    )


async def test_browser_signs_in_and_comes_back(browser: Browser) -> None:
    address = await browser.begin(f"{SSO}/login?returnTo=/performers/1%3Ftab=kyc")
    assert address.query["response_type"] == "code"
    assert address.query["code_challenge_method"] == "S256"
    assert address.query["redirect_uri"] == f"{SITE}{SSO}/callback"
    assert set(address.query["scope"].split()) >= {"openid", "email"}
    assert len(address.query["state"]) >= 32
    assert len(address.query["nonce"]) >= 32
    answer = await browser.get(await browser.approve(address, "sg_1"))
    assert (answer.status, answer.headers["Location"]) == (302, "/performers/1?tab=kyc")
    assert answer.headers["Cache-Control"] == "no-store"
    assert await has_session(browser)
    assert not any(name.startswith(PENDING_PREFIX) for name in browser.cookies)


async def test_each_sign_in_has_its_own_secrets_and_a_new_session(browser: Browser) -> None:
    first, second = await browser.begin(), await browser.begin()
    for name in ("state", "nonce", "code_challenge"):
        assert first.query[name] != second.query[name]
    await browser.sign_in()
    before = browser.session_id
    await browser.sign_in()
    assert browser.session_id != before


async def test_session_cookie_that_was_planted_before_is_replaced(browser: Browser) -> None:
    browser.cookies[SESSION_COOKIE] = f"{'a' * 32}.{'b' * 43}"
    await browser.sign_in()
    assert browser.session_id != "a" * 32
    assert await has_session(browser)


async def test_ten_tabs_at_once_all_end_signed_in(browser: Browser) -> None:
    addresses = await asyncio.gather(*(browser.begin(f"{SSO}/login?returnTo=/tab/{tab}") for tab in range(10)))
    callbacks = [await browser.approve(address, "sg_1") for address in addresses]
    answers = await asyncio.gather(*(browser.get(callback) for callback in callbacks))
    assert [answer.headers["Location"] for answer in answers] == [f"/tab/{tab}" for tab in range(10)]
    assert await has_session(browser)


async def test_sign_ins_in_progress_are_bounded_in_number_and_bytes(browser: Browser) -> None:
    for _ in range(MAX_PENDING + 5):
        last = await browser.begin()
    pending = {name: value for name, value in browser.cookies.items() if name.startswith(PENDING_PREFIX)}
    assert len(pending) == MAX_PENDING
    assert sum(len(name) + len(value) for name, value in pending.items()) < 1200
    assert (await browser.get(await browser.approve(last, "sg_1"))).headers["Location"] == "/"


async def test_reload_of_a_used_callback_leads_on_to_the_site(browser: Browser) -> None:
    callback = await browser.approve(await browser.begin(f"{SSO}/login?returnTo=/performers"), "sg_1")
    assert (await browser.get(callback)).status == 302
    session = browser.cookies[SESSION_COOKIE]
    again = await browser.get(callback)
    assert (again.status, again.headers["Location"]) == (302, "/performers")
    assert browser.cookies[SESSION_COOKIE] == session
    browser.cookies.clear()
    assert is_failure_page(await browser.get(callback))


async def test_callback_of_another_browser_signs_nobody_in(
    browser: Browser, new_browser: Callable[[], Browser]
) -> None:
    victim, attacker = new_browser(), browser
    callback = await attacker.approve(await attacker.begin(), "sg_1")
    answer = await victim.get(callback)
    assert (answer.status, is_failure_page(answer)) == (401, True)
    assert SESSION_COOKIE not in victim.cookies
    assert (await attacker.get(callback)).status == 302  # and it is not used up by that


STRAY = ["", "state=", "state=x", "state=x&code=y", "code=y", "state=x&state=y&code=z", "state=%00&code=%0d%0a"]


async def test_callback_that_nobody_began_ends_on_the_page(browser: Browser) -> None:
    for parameters in STRAY:
        answer = await browser.get(f"{SSO}/callback?{parameters}")
        assert answer.status in {400, 401}, parameters
        assert is_failure_page(answer, "")


async def test_page_shows_nothing_of_the_providers_text(browser: Browser) -> None:
    address = await browser.begin()
    query = {
        "state": address.query["state"],
        "iss": browser.simulator.base_url,
        "error": "<script>alert(1)</script>",
        "error_description": "<b>call 555-1234</b>",
    }
    answer = await browser.get(str(URL(f"{SSO}/callback").with_query(query)))
    assert (answer.status, is_failure_page(answer)) == (401, True)
    assert b"alert" not in answer.body
    assert b"555" not in answer.body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_client_that_takes_no_html_gets_the_error_body(browser: Browser) -> None:
    answer = await browser.send("GET", f"{SSO}/callback?state=x&code=y", {"Accept": "application/json"})
    assert (answer.status, answer.code) == (401, "SSO_AUTH_FAILED")


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None])
async def test_callback_accepts_only_the_provider_that_was_asked(browser: Browser, issuer: str | None) -> None:
    callback = URL(await browser.approve(await browser.begin(), "sg_1"))
    other = callback.without_query_params("iss") if issuer is None else callback.update_query(iss=issuer)
    answer = await browser.get(other.raw_path_qs)
    assert (answer.status, is_failure_page(answer)) == (401, True)
    assert SESSION_COOKIE not in browser.cookies


async def test_code_of_another_sign_in_is_refused(browser: Browser) -> None:
    first, second = await browser.begin(), await browser.begin()
    theirs = URL(await browser.approve(first, "sg_1"))
    mixed = URL(await browser.approve(second, "sg_1")).update_query(code=theirs.query["code"])
    answer = await browser.get(mixed.raw_path_qs)  # the PKCE verifier is that of the second
    assert (answer.status, is_failure_page(answer)) == (401, True)


async def test_challenge_is_the_hash_of_a_verifier_that_the_browser_never_sees(browser: Browser) -> None:
    address = await browser.begin()
    seen = [*browser.cookies.values(), *address.query.values()]
    digests = {urlsafe_b64encode(sha256(each.encode()).digest()).rstrip(b"=").decode() for each in seen}
    assert address.query["code_challenge"] not in digests


async def test_sign_out_leads_to_the_providers_sign_out(browser: Browser, simulator: SimulatorClient) -> None:
    await browser.sign_in()
    url = URL((await browser.post(f"{SSO}/logout")).json["data"]["providerLogoutUrl"])
    answer = await simulator.request("GET", url.raw_path_qs)
    assert (answer.status, answer.headers["Location"]) == (302, f"{SITE}/")
    assert SIGNED_OUT_COOKIE not in browser.cookies
    assert "prompt" not in (await browser.begin()).query


async def test_cookie_and_api_are_signed_out_together(browser: Browser) -> None:
    await browser.sign_in()
    kept = dict(browser.cookies)
    await browser.post(f"{SSO}/logout")
    browser.cookies = kept
    assert not await has_session(browser)


ELSEWHERE = ["/auth/sso/login", "//evil.example", "https://evil.example", "/a\\b", ""]


async def test_bad_return_to_is_400_before_the_provider_is_visited(site: Api) -> None:
    for path in ELSEWHERE:
        answer = await site.get(URL(f"{SSO}/login").with_query(returnTo=path).raw_path_qs)
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
        assert list(answer.json["error"]["details"]) == ["returnTo"]


async def test_sign_in_after_a_sign_out_that_the_provider_missed_asks_for_the_password(browser: Browser) -> None:
    browser.cookies[SIGNED_OUT_COOKIE] = "1"
    address = await browser.begin()
    assert address.query["prompt"] == "login"
    await browser.get(await browser.approve(address, "sg_1"))
    assert SIGNED_OUT_COOKIE not in browser.cookies
    assert "prompt" not in (await browser.begin()).query
