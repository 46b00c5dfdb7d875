"""Sign-in with a provider's token, the session that it makes, and how sessions end."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from gateway.settings import GatewaySettings
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter
from safevideo_common.auth.authentication import CSRF_COOKIE, SESSION_COOKIE
from safevideo_common.database.engine import Database
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api
from safevideo_testkit.people import SSO, Browser, bearer, signed_in, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

PERFORMER = "/api/v1/performers/1"
"""A route that every role may use; there is no such performer."""


async def is_signed_in(site: Api, headers: dict[str, str]) -> bool:
    answer = await site.get(PERFORMER, headers)
    assert answer.code in {"PERFORMER_NOT_FOUND", "UNAUTHORIZED"}
    return answer.status == 404


async def is_valid(site: Api, session_id: str) -> bool:
    return bool((await site.get(f"{SSO}/session/verify?sessionId={session_id}")).json["data"]["isValid"])


async def test_sign_in_with_a_token_answers_as_the_contract_says(site: Api, simulator: SimulatorClient) -> None:
    claims = {"name": "Jane", "preferred_username": "jane", "picture": "https://sharegram.example/jane.jpg"}
    answer = await unified_login(site, await token_of(simulator, **claims))
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    data = answer.json["data"]
    assert set(data) == {"token", "sessionId", "user", "expiresIn"}
    assert data["expiresIn"] == 86400
    assert data["user"] == {
        "id": 1,
        "email": "jane@example.com",
        "username": "jane",
        "displayName": "Jane",
        "profileImage": "https://sharegram.example/jane.jpg",
        "role": "performer",
        "isEmailVerified": True,
        "ssoProvider": "sharegram",
    }
    assert (await signed_in(site, simulator))["user"]["id"] == 1


async def test_access_token_opens_the_api_until_its_session_ends(site: Api, simulator: SimulatorClient) -> None:
    data = await signed_in(site, simulator)
    assert await is_signed_in(site, bearer(data))
    answer = await site.request("POST", f"{SSO}/logout", bearer(data))
    assert (answer.status, answer.json["data"]["sessionsEnded"]) == (200, 1)
    assert answer.json["data"]["providerLogoutUrl"].startswith(f"{simulator.base_url}/oauth/logout?client_id=safevideo")
    assert not await is_signed_in(site, bearer(data))
    assert not await is_valid(site, data["sessionId"])


async def test_logout_all_ends_every_session_of_the_user_and_of_nobody_else(
    site: Api, simulator: SimulatorClient
) -> None:
    mine = [await signed_in(site, simulator) for _ in range(3)]
    other = await signed_in(site, simulator, sub="sg_2", email="ann@example.com")
    answer = await site.request("POST", f"{SSO}/logout-all", bearer(mine[0]))
    assert answer.json["data"]["sessionsEnded"] == 3
    assert [await is_signed_in(site, bearer(each)) for each in (*mine, other)] == [False, False, False, True]
    assert await is_signed_in(site, bearer(await signed_in(site, simulator)))  # a new sign-in is none of those


async def test_verify_shows_a_session_and_hides_what_is_none(site: Api, simulator: SimulatorClient) -> None:
    data = await signed_in(site, simulator)
    shown = (await site.get(f"{SSO}/session/verify?sessionId={data['sessionId']}")).json["data"]
    begin, end = (datetime.fromisoformat(shown[name]) for name in ("createdAt", "expiresAt"))
    assert (shown["userId"], shown["provider"], shown["isValid"]) == (1, "sharegram", True)
    assert (end - begin).total_seconds() == 86400
    assert begin <= datetime.now(UTC) < end
    for other in ("nothing", "%27%22%20*", "x" * 128, "..%2F..", "%C3%A9"):
        answer = await site.get(f"{SSO}/session/verify?sessionId={other}")
        assert (answer.status, answer.json["data"]["isValid"], answer.json["data"]["userId"]) == (200, False, None)
    assert (await site.get(f"{SSO}/session/verify")).code == "VALIDATION_ERROR"


BAD_TOKENS: list[tuple[dict[str, object], str]] = [
    ({"expiresIn": -3600}, "expired"),
    ({"sign": "wrong"}, "signature"),
    ({"sign": "none"}, "algorithm"),
    ({"kid": "unknown"}, "unknown_key"),
    ({"aud": "another"}, "audience"),
    ({"iss": "https://evil.example"}, "issuer"),
    ({"alg": "HS256"}, "algorithm"),
    ({"nonce": "of an ID token"}, "type"),
]


async def test_sign_in_rejects_a_bad_token(site: Api, simulator: SimulatorClient) -> None:
    for change, reason in BAD_TOKENS:
        answer = await unified_login(site, await token_of(simulator, **change))
        assert (answer.status, answer.code) == (401, "INVALID_SHAREGRAM_TOKEN")
        assert answer.json["error"]["message"].startswith("Invalid token")
        assert answer.json["error"]["details"]["reason"] == reason


WITHOUT_TOKEN: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Basic abc"},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer x"},
]


async def test_sign_in_without_a_token_is_401(site: Api) -> None:
    for headers in WITHOUT_TOKEN:
        answer = await site.request("POST", f"{SSO}/unified-login", headers)
        assert (answer.status, answer.code) == (401, "INVALID_SHAREGRAM_TOKEN"), headers


async def test_sign_in_with_an_unknown_provider_is_400(site: Api, simulator: SimulatorClient) -> None:
    assert (await unified_login(site, await token_of(simulator), "nobody")).code == "VALIDATION_ERROR"


async def test_sign_in_that_is_not_configured_says_so(gateway: Api) -> None:
    answer = await unified_login(gateway, "x.y.z")
    assert (answer.status, answer.code) == (503, "INTEGRATION_NOT_CONFIGURED")
    status = (await gateway.get(f"{SSO}/integration-status")).json["data"]
    assert status == {"providers": {"sharegram": {"enabled": False, "configured": False}}}


async def test_integration_status_shows_the_provider(site: Api) -> None:
    status = (await site.get(f"{SSO}/integration-status")).json["data"]
    assert status == {"providers": {"sharegram": {"enabled": True, "configured": True}}}


async def test_a_rotated_key_works_and_a_retired_one_does_not(site: Api, simulator: SimulatorClient) -> None:
    old = await token_of(simulator)
    assert (await unified_login(site, old)).status == 200
    await simulator.post("/_sim/keys/rotate", {"keepOld": False})
    new = await token_of(simulator)

    async def is_known() -> bool:
        return (await unified_login(site, new)).status == 200

    await eventually(is_known)  # once the cooldown of the first fetch has passed
    answer = await unified_login(site, old)
    assert answer.json["error"]["details"]["reason"] == "unknown_key"


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
async def test_a_wrong_header_never_falls_back_to_the_cookie(
    browser: Browser, admin: dict[str, str], name: str
) -> None:
    await browser.sign_in()
    assert (await browser.get(PERFORMER)).code == "PERFORMER_NOT_FOUND"
    wrong = {"Authorization": "Bearer wrong"} if name == "Authorization" else {**admin, "X-API-Key": "sv_wrong"}
    assert (await browser.get(PERFORMER, wrong)).code == "UNAUTHORIZED"


async def test_two_credentials_in_headers_are_401(site: Api, simulator: SimulatorClient, admin: dict[str, str]) -> None:
    data = await signed_in(site, simulator)
    assert (await site.get(PERFORMER, {**bearer(data), **admin})).code == "UNAUTHORIZED"


async def test_session_id_opens_nothing(site: Api, simulator: SimulatorClient, browser: Browser) -> None:
    data = await signed_in(site, simulator)
    session_id = data["sessionId"]
    for value in (session_id, f"{session_id}.", f"{session_id}.{session_id}", f"{session_id}.{'x' * 43}"):
        assert not await is_signed_in(site, {"Cookie": f"{SESSION_COOKIE}={value}"})
        assert not await is_signed_in(site, {"Authorization": f"Bearer {value}"})


async def test_cookie_that_is_sent_twice_is_no_session(browser: Browser, site: Api) -> None:
    await browser.sign_in()
    cookie = f"{SESSION_COOKIE}={browser.cookies[SESSION_COOKIE]}"
    assert await is_signed_in(site, {"Cookie": cookie})
    assert not await is_signed_in(site, {"Cookie": f"{cookie}; {cookie}"})
    assert not await is_signed_in(site, {"Cookie": f"{SESSION_COOKIE}=x; {cookie}"})


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://safevideo.example.evil.example"},
    {"X-CSRF-Token": ""},
    {"X-CSRF-Token": "0" * 64},
    {"X-CSRF-Token": "\u00e9"},
]


async def test_change_by_cookie_needs_our_origin_and_the_csrf_token(browser: Browser) -> None:
    await browser.sign_in()
    for headers in FOREIGN:
        answer = await browser.post(f"{SSO}/logout", headers)
        assert (answer.status, answer.code) == (403, "FORBIDDEN"), headers
    assert await is_valid(browser.site, browser.session_id)
    assert (await browser.post(f"{SSO}/logout")).status == 200
    assert {SESSION_COOKIE, CSRF_COOKIE}.isdisjoint(browser.cookies)


async def test_api_key_has_no_session_to_end(site: Api, admin: dict[str, str]) -> None:
    assert (await site.request("POST", f"{SSO}/logout", admin)).code == "VALIDATION_ERROR"


async def test_role_of_a_person_decides_what_they_may_do(site: Api, simulator: SimulatorClient) -> None:
    answer = await site.get("/api/v1/admin/events", bearer(await signed_in(site, simulator)))
    assert (answer.status, answer.code) == (403, "FORBIDDEN")


async def test_access_token_signed_with_another_secret_is_401(site: Api, simulator: SimulatorClient) -> None:
    token = (await signed_in(site, simulator))["token"]
    head, body, signature = token.split(".")
    for forged in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", token + "x", "a.b.c", "x" * 5000):
        assert not await is_signed_in(site, {"Authorization": f"Bearer {forged}"})
    assert not await is_signed_in(site, {"Authorization": f"Bearer {await token_of(simulator)}"})


async def test_sign_in_and_sign_out_are_in_the_audit_log_without_personal_data(
    site: Api, simulator: SimulatorClient, admin: dict[str, str]
) -> None:
    data = await signed_in(site, simulator, preferred_username="jane")
    await site.request("POST", f"{SSO}/logout", bearer(data))
    await simulator.post("/_sim/logout", {"url": f"{site.base_url}{SSO}/backchannel-logout", "sub": "sg_1"})
    answer = await site.get("/api/v1/admin/audit?order=asc", admin)
    entries = [(entry["actor"], entry["action"]) for entry in answer.json["data"]]
    assert entries == [
        ("user:1", "sessions.started"),
        ("user:1", "sessions.ended"),
        ("provider:sharegram", "sessions.ended"),
    ]
    assert b"jane" not in answer.body
    assert data["sessionId"].encode() not in answer.body


async def test_audit_log_has_the_address_of_the_client_behind_trusted_proxies(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]],
    sso_settings: GatewaySettings,
    simulator: SimulatorClient,
    database: Database,
) -> None:
    async with start(sso_settings.model_copy(update={"trusted_proxies": "127.0.0.1/32"})) as site:
        token = await token_of(simulator)
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.7"}
        assert (await site.request("POST", f"{SSO}/unified-login", headers)).status == 200
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(action="sessions.started"), page=1, limit=10)
    assert [each.entry.remote for each in records] == ["203.0.113.7"]
