from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import urlencode

import jwt
import pytest
from yarl import URL

from sharegram_simulator.client import Answer, Json, SimulatorClient

VERIFIER = "a-verifier-of-forty-three-characters-at-least"
CALLBACK = "http://LOCALHOST:80/auth/sso/callback?from=sharegram"
GOOD = {
    "response_type": "code",
    "client_id": "safevideo",
    "redirect_uri": CALLBACK,
    "state": "a state",
    "nonce": "a nonce",
    "code_challenge": urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    "code_challenge_method": "S256",
    "scope": "openid profile email",
}


async def discover(simulator: SimulatorClient) -> Json:
    return await simulator.get("/.well-known/openid-configuration")


async def authorize(simulator: SimulatorClient, **changes: str | None) -> Answer:
    asked = {name: value for name, value in (GOOD | changes).items() if value is not None}
    endpoint = URL((await discover(simulator))["authorization_endpoint"])
    return await simulator.request("GET", f"{endpoint.path}?{urlencode(asked)}")


async def exchange(simulator: SimulatorClient, code: str, **changes: str) -> Answer:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": "safevideo",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    endpoint = URL((await discover(simulator))["token_endpoint"])
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await simulator.request("POST", endpoint.path, data=urlencode(form | changes).encode(), headers=headers)


async def code_for(simulator: SimulatorClient, performer_id: str = "sg_1") -> str:
    profile = {"username": "ann", "displayName": "Ann", "email": "ann@example.com"}
    await simulator.post("/_sim/performers", {"performerId": performer_id, "profile": profile, "silent": True})
    return URL((await authorize(simulator, login_hint=performer_id)).headers["Location"]).query["code"]


async def test_a_sign_in_goes_from_discovery_to_an_id_token_of_the_chosen_performer(
    simulator: SimulatorClient,
) -> None:
    await simulator.post("/_sim/performers", {"count": 2, "silent": True})
    await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": {"email": "ann@example.com"}})
    answer = await authorize(simulator, login_hint="sg_1")
    back = URL(answer.headers["Location"])
    assert (answer.status, back.path, back.query["from"], back.query["state"]) == (
        302,
        "/auth/sso/callback",
        "sharegram",
        "a state",
    )
    tokens = await exchange(simulator, back.query["code"])
    assert (tokens.status, tokens.headers["Cache-Control"]) == (200, "no-store")

    found = await discover(simulator)
    assert found["issuer"] == simulator.base_url
    keys = jwt.PyJWKSet.from_dict(await simulator.get(URL(found["jwks_uri"]).path))
    id_token = tokens.json["id_token"]
    key = keys[jwt.get_unverified_header(id_token)["kid"]]
    claims = jwt.decode(id_token, key, ["RS256"], audience="safevideo", issuer=found["issuer"])
    assert (claims["sub"], claims["nonce"], claims["email"]) == ("sg_1", "a nonce", "ann@example.com")
    assert claims["email_verified"] is True
    access = jwt.decode(tokens.json["access_token"], key, ["RS256"], audience="safevideo", issuer=found["issuer"])
    assert (access["sub"], "nonce" in access) == ("sg_1", False)


async def test_a_code_is_good_once(simulator: SimulatorClient) -> None:
    code = await code_for(simulator)
    assert (await exchange(simulator, code)).status == 200
    again = await exchange(simulator, code)
    assert (again.status, again.json) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "change",
    [
        {"code_verifier": VERIFIER.upper()},
        {"redirect_uri": "http://localhost/auth/sso/callback?from=sharegram"},
        {"client_id": "another"},
    ],
)
async def test_a_code_is_no_good_to_anyone_else_and_is_spent_by_the_attempt(
    simulator: SimulatorClient, change: dict[str, str]
) -> None:
    code = await code_for(simulator)
    assert (await exchange(simulator, code, **change)).json == {"error": "invalid_grant"}
    assert (await exchange(simulator, code)).json == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    "change", [{"grant_type": "password"}, {"code_verifier": "short"}, {"code_verifier": "!" * 43}]
)
async def test_a_malformed_exchange_is_told_in_the_shape_of_oauth(
    simulator: SimulatorClient, change: dict[str, str]
) -> None:
    answer = await exchange(simulator, await code_for(simulator), **change)
    assert (answer.status, answer.json) == (400, {"error": "invalid_request"})


@pytest.mark.parametrize("body", [b"", b"\xff=\xff", b"--x\r\n", b"{}"])
async def test_an_exchange_that_is_no_form_is_refused(simulator: SimulatorClient, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await simulator.request("POST", "/oauth/token", data=body, headers=headers)
    assert (answer.status, answer.json) == (400, {"error": "invalid_request"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", "another"),
        ("code_challenge_method", "plain"),
        ("code_challenge_method", None),
        ("code_challenge", None),
        ("state", None),
        ("response_type", "token"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", None),
    ],
)
async def test_a_sign_in_without_what_keeps_it_safe_is_refused_and_not_sent_back(
    simulator: SimulatorClient, field: str, value: str | None
) -> None:
    answer = await authorize(simulator, **{field: value})
    assert (answer.status, list(answer.json["error"]["details"])) == (400, [field])
    assert "Location" not in answer.headers


async def test_of_several_performers_the_person_chooses(simulator: SimulatorClient) -> None:
    named = {"performerId": "sg_<1>", "profile": {"displayName": "<b>Ann"}, "silent": True}
    await simulator.post("/_sim/performers", named)
    await simulator.post("/_sim/performers", {"count": 1, "silent": True})
    answer = await authorize(simulator)
    page = answer.body.decode()
    assert answer.status == 200
    assert "login_hint=sg_%3C1%3E" in page
    assert "&lt;b&gt;Ann" in page
    assert "<b>" not in page


async def test_who_is_unknown_is_denied_back_at_the_client(simulator: SimulatorClient) -> None:
    answer = await authorize(simulator, login_hint="sg_nobody")
    back = URL(answer.headers["Location"])
    assert (back.query["error"], back.query["state"]) == ("access_denied", "a state")


async def test_sign_in_names_its_issuer_and_binds_both_tokens(simulator: SimulatorClient) -> None:
    await code_for(simulator)
    back = URL((await authorize(simulator, login_hint="sg_1")).headers["Location"])
    assert back.query["iss"] == (await discover(simulator))["issuer"]
    tokens = (await exchange(simulator, back.query["code"])).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    half = sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == urlsafe_b64encode(half).rstrip(b"=").decode()
    assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"


async def test_sign_out_sends_the_browser_back_and_knows_its_client(simulator: SimulatorClient) -> None:
    there = urlencode({"client_id": "safevideo", "post_logout_redirect_uri": "https://safevideo.example/"})
    answer = await simulator.request("GET", f"/oauth/logout?{there}")
    assert (answer.status, answer.headers["Location"]) == (302, "https://safevideo.example/")
    assert (await simulator.request("GET", f"/oauth/logout?{there.replace('safevideo', 'x', 1)}")).status == 400
