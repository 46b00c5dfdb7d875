import asyncio

import jwt
import pytest

from sharegram_simulator.client import Json, SimulatorClient
from sharegram_simulator.testing import ScriptedReceiver


async def token(simulator: SimulatorClient, **order: object) -> str:
    made: str = (await simulator.post("/_sim/tokens", {"sub": "sg_1"} | order))["token"]
    return made


async def published(simulator: SimulatorClient) -> dict[str, jwt.PyJWK]:
    keys = jwt.PyJWKSet.from_dict(await simulator.get("/.well-known/jwks.json"))
    return {str(key.key_id): key for key in keys.keys}


async def accept(simulator: SimulatorClient, made: str) -> Json:
    """Decode a token like a careful receiver: the key by its id, the algorithm by the key, all claims required."""
    key = (await published(simulator))[jwt.get_unverified_header(made)["kid"]]
    options: Json = {"require": ["exp", "iss", "aud", "sub"]}
    return jwt.decode(made, key, [key.algorithm_name], audience="safevideo", issuer=simulator.base_url, options=options)


async def test_a_token_holds_what_was_ordered(simulator: SimulatorClient) -> None:
    made = await token(simulator, email="ann@example.com", emailVerified=False, roles=["performer"])
    claims = await accept(simulator, made)
    assert (claims["sub"], claims["email"], claims["email_verified"]) == ("sg_1", "ann@example.com", False)
    assert claims["roles"] == ["performer"]
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(
    ("order", "refusal"),
    [
        ({"expiresIn": -120}, jwt.ExpiredSignatureError),
        ({"aud": "another"}, jwt.InvalidAudienceError),
        ({"iss": "https://evil.example"}, jwt.InvalidIssuerError),
        ({"exp": None}, jwt.MissingRequiredClaimError),
        ({"sub": None}, jwt.MissingRequiredClaimError),
        ({"nbf": 2**40}, jwt.ImmatureSignatureError),
        ({"sign": "wrong"}, jwt.InvalidSignatureError),
        ({"sign": "none"}, jwt.InvalidAlgorithmError),
        ({"alg": "HS256"}, jwt.InvalidAlgorithmError),
        ({"kid": "unknown"}, KeyError),
        ({"kid": None}, KeyError),
    ],
)
async def test_an_override_makes_a_token_bad_in_one_way(
    simulator: SimulatorClient, order: dict[str, object], refusal: type[Exception]
) -> None:
    made = await token(simulator, **order)
    with pytest.raises(refusal):
        await accept(simulator, made)


async def test_a_header_can_be_anything(simulator: SimulatorClient) -> None:
    made = await token(simulator, header={"typ": "logout+jwt", "cty": "x"})
    assert jwt.get_unverified_header(made)["typ"] == "logout+jwt"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_rotation_signs_with_a_new_key_and_keeps_the_old_one_published(
    simulator: SimulatorClient, algorithm: str
) -> None:
    before = await token(simulator)
    rotated = await simulator.post("/_sim/keys/rotate", {"algorithm": algorithm})
    after = await token(simulator)
    assert jwt.get_unverified_header(after)["kid"] == rotated["kid"]
    assert list(await published(simulator)) == rotated["published"]
    for made in (before, after):
        assert (await accept(simulator, made))["sub"] == "sg_1"
    old = await token(simulator, kid=jwt.get_unverified_header(before)["kid"])
    assert (await accept(simulator, old))["sub"] == "sg_1"


async def test_a_rotation_can_retire_the_old_keys(simulator: SimulatorClient) -> None:
    before = await token(simulator)
    await simulator.post("/_sim/keys/rotate", {"keepOld": False})
    with pytest.raises(KeyError):
        await accept(simulator, before)


async def test_rotations_at_once_lose_no_key_and_the_published_are_bounded(simulator: SimulatorClient) -> None:
    order = {"algorithm": "ES256"}
    made = await asyncio.gather(*(simulator.post("/_sim/keys/rotate", order) for _ in range(8)))
    assert {one["kid"] for one in made} <= set(await published(simulator))
    for _ in range(10):
        await simulator.post("/_sim/keys/rotate", order)
    assert len(await published(simulator)) == 16


async def test_no_private_part_of_a_key_is_published(simulator: SimulatorClient) -> None:
    for algorithm in ("ES256", "EdDSA"):
        await simulator.post("/_sim/keys/rotate", {"algorithm": algorithm})
    for key in (await simulator.get("/.well-known/jwks.json"))["keys"]:
        assert not set(key) & {"d", "p", "q", "dp", "dq", "qi"}


@pytest.mark.parametrize(
    "order", [{}, {"sub": "a", "expiresIn": 10**12}, {"sub": "a", "x": 2**70}, {"sub": "a", "sign": "x"}]
)
async def test_an_order_that_makes_no_token_is_refused(simulator: SimulatorClient, order: dict[str, object]) -> None:
    answer = await simulator.request("POST", "/_sim/tokens", body=order)
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_logout_token_is_sent_as_a_form(simulator: SimulatorClient, receiver: ScriptedReceiver) -> None:
    sent = await simulator.post("/_sim/logout", {"sub": "sg_1", "sid": "s1", "url": receiver.url})
    (received,) = await receiver.first(1)
    assert (sent["status"], received.body.decode()) == (200, f"logout_token={sent['token']}")
    claims = jwt.decode(sent["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["sid"], list(claims["events"])) == (
        "sg_1",
        "s1",
        ["http://schemas.openid.net/event/backchannel-logout"],
    )
    assert jwt.get_unverified_header(sent["token"])["typ"] == "logout+jwt"
