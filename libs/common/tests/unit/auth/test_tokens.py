"""Tokens of an identity provider: what passes, and every known way to forge or misuse one."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from safevideo_common.auth.jwks import JwksCache, JwksRejected, parse_jwks
from safevideo_common.auth.tokens import LOGOUT_EVENT, TokenIssuer, TokenKind, TokenVerifier
from safevideo_common.errors import InvalidSharegramToken
from safevideo_common.observability.logs import FilteringBoundLogger, LogSink, build_logger
from safevideo_testkit.eventually import eventually, running_task

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISSUER, AUDIENCE = "https://sharegram.example", "safevideo"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P256: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()


def jwk(private: PrivateKey, algorithm: str, **members: object) -> dict[str, object]:
    public = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, "use": "sig", "kid": algorithm, "alg": algorithm} | members


KEYS: Final = [
    jwk(RSA, "RS256"),
    jwk(P256, "ES256"),
    jwk(ED, "EdDSA"),
    jwk(P384, "ES384"),
    jwk(WEAK_RSA, "RS256", kid="weak"),
]


def document(*keys: Mapping[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def signed(header: object, claims: object, key: PrivateKey = RSA, algorithm: str = "RS256") -> str:
    parts = [each if isinstance(each, str) else json.dumps(each) for each in (header, claims)]
    message = ".".join(text(part.encode()) for part in parts)
    return f"{message}.{text(get_default_algorithms()[algorithm].sign(message.encode(), key))}"


def at(**delta: float) -> float:
    return (NOW + timedelta(**delta)).timestamp()


HEADER: Final = {"alg": "RS256", "kid": "RS256", "typ": "JWT"}
CLAIMS: Final[dict[str, object]] = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "sg_1", "iat": at(seconds=-10), "exp": at(hours=1),
}  # fmt: skip
OF_KIND: Final[dict[TokenKind, dict[str, object]]] = {
    TokenKind.ACCESS: {},
    TokenKind.ID: {"nonce": "n"},
    TokenKind.LOGOUT: {"events": {LOGOUT_EVENT: {}}, "jti": "j", "sid": "s"},
}


async def never() -> bytes:
    raise JwksRejected("no answer")


@pytest.fixture
def fetches() -> list[int]:
    return []


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[FilteringBoundLogger]:
    sink = LogSink(tmp_path, stdout=False)
    yield build_logger("test", sink)
    sink.close()


@pytest.fixture
async def keys(fetches: list[int], logger: FilteringBoundLogger) -> JwksCache:
    async def fetch() -> bytes:
        fetches.append(1)
        return document(*KEYS)

    cache = JwksCache(fetch, {"RS256", "ES256"}, logger, cooldown_seconds=3600)

    async def is_loaded() -> bool:
        return cache.is_loaded

    async with running_task(cache.run()):
        await eventually(is_loaded)
    return cache


@pytest.fixture
def verifier(keys: JwksCache) -> TokenVerifier:
    return TokenVerifier(TokenIssuer(ISSUER, AUDIENCE, frozenset({"RS256", "ES256"})), keys, lambda: NOW)


async def refusal(verifier: TokenVerifier, token: str, kind: TokenKind = TokenKind.ACCESS) -> str:
    with pytest.raises(InvalidSharegramToken) as raised:
        await verifier.verify(token, kind, nonce="n")
    assert raised.value.message.startswith("Invalid token")
    assert raised.value.details is not None
    return str(raised.value.details["reason"])


@pytest.mark.parametrize(
    ("header", "key", "algorithm"),
    [
        (HEADER, RSA, "RS256"),
        ({"alg": "ES256", "kid": "ES256"}, P256, "ES256"),
        (HEADER | {"typ": "at+jwt"}, RSA, "RS256"),
    ],
)
async def test_verifier_accepts_an_access_token(
    verifier: TokenVerifier, header: dict[str, str], key: PrivateKey, algorithm: str
) -> None:
    token = await verifier.verify(signed(header, CLAIMS | {"aud": [AUDIENCE, "x"]}, key, algorithm), TokenKind.ACCESS)
    assert (token.subject, token.issued_at, token.expires_at) == (
        "sg_1", NOW - timedelta(seconds=10), NOW + timedelta(hours=1),
    )  # fmt: skip


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("used_as", TokenKind)
async def test_verifier_accepts_a_token_of_its_own_kind_only(
    verifier: TokenVerifier, kind: TokenKind, used_as: TokenKind
) -> None:
    token = signed(HEADER, CLAIMS | OF_KIND[kind])
    if kind is used_as:
        assert (await verifier.verify(token, used_as, nonce="n")).subject == "sg_1"
    else:
        assert await refusal(verifier, token, used_as) in {"type", "nonce"}


@pytest.mark.parametrize(
    ("kind", "typ"), [(k, t) for k, t in zip(TokenKind, ("logout+jwt", "at+jwt", "at+jwt"), strict=True)]
)
async def test_verifier_rejects_the_type_of_another_kind(verifier: TokenVerifier, kind: TokenKind, typ: str) -> None:
    assert await refusal(verifier, signed(HEADER | {"typ": typ}, CLAIMS | OF_KIND[kind]), kind) == "type"


def hmac_with_public_key(form: Encoding) -> str:
    public = RSA.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    message = ".".join(text(json.dumps(part).encode()) for part in (HEADER | {"alg": "HS256"}, CLAIMS))
    return f"{message}.{text(digest(public, message.encode(), 'sha256'))}"


def unsigned(algorithm: str) -> str:
    return f"{text(json.dumps(HEADER | {'alg': algorithm}).encode())}.{text(json.dumps(CLAIMS).encode())}."


GOOD: Final = signed(HEADER, CLAIMS)
HEAD, BODY, SIGNATURE = GOOD.split(".")
OWN_KEY: Final = jwk(OTHER_RSA, "RS256")

FORGED: Final[dict[str, tuple[str, str]]] = {
    **{f"alg {name!r}": (unsigned(name), "algorithm") for name in ("none", "None", "NONE", "nOnE", "none ", "")},
    "alg missing": (signed({"kid": "RS256"}, CLAIMS), "algorithm"),
    "alg a number": (signed(HEADER | {"alg": 256}, CLAIMS), "algorithm"),
    "alg a list": (signed(HEADER | {"alg": ["RS256"]}, CLAIMS), "algorithm"),
    "alg in lower case": (signed(HEADER | {"alg": "rs256"}, CLAIMS), "algorithm"),
    "HMAC with the public key, PEM": (hmac_with_public_key(Encoding.PEM), "algorithm"),
    "HMAC with the public key, DER": (hmac_with_public_key(Encoding.DER), "algorithm"),
    "PS256 with the RSA key": (signed(HEADER | {"alg": "PS256"}, CLAIMS, RSA, "PS256"), "algorithm"),
    "RS512 with the RSA key": (signed(HEADER | {"alg": "RS512"}, CLAIMS, RSA, "RS512"), "algorithm"),
    "ES256 for the RSA key": (signed(HEADER | {"alg": "ES256"}, CLAIMS, P256, "ES256"), "algorithm"),
    "RS256 for the EC key": (signed(HEADER | {"kid": "ES256"}, CLAIMS), "algorithm"),
    "ES256 with the P-384 key": (signed({"alg": "ES256", "kid": "ES384"}, CLAIMS, P384, "ES384"), "unknown_key"),
    "EdDSA where it is not allowed": (signed({"alg": "EdDSA", "kid": "EdDSA"}, CLAIMS, ED, "EdDSA"), "algorithm"),
    "RSA-1024": (signed(HEADER | {"kid": "weak"}, CLAIMS, WEAK_RSA), "unknown_key"),
    "the key of a stranger": (signed(HEADER, CLAIMS, OTHER_RSA), "signature"),
    "an embedded jwk": (signed(HEADER | {"jwk": OWN_KEY}, CLAIMS, OTHER_RSA), "key_in_header"),
    "a jku": (signed(HEADER | {"jku": "https://evil.example/jwks"}, CLAIMS, OTHER_RSA), "key_in_header"),
    "an x5u": (signed(HEADER | {"x5u": "https://evil.example/x"}, CLAIMS, OTHER_RSA), "key_in_header"),
    "an x5c": (signed(HEADER | {"x5c": ["MIIB"]}, CLAIMS, OTHER_RSA), "key_in_header"),
    "a path as kid": (signed(HEADER | {"kid": "../../../../dev/null"}, CLAIMS), "unknown_key"),
    "SQL as kid": (signed(HEADER | {"kid": "x' UNION SELECT 'key' --"}, CLAIMS), "unknown_key"),
    "a kid in other case": (signed(HEADER | {"kid": "rs256"}, CLAIMS), "unknown_key"),
    "no kid": (signed({"alg": "RS256"}, CLAIMS), "kid"),
    "an empty kid": (signed(HEADER | {"kid": ""}, CLAIMS), "kid"),
    "a kid that is a list": (signed(HEADER | {"kid": ["RS256"]}, CLAIMS), "kid"),
    "a long kid": (signed(HEADER | {"kid": "k" * 256}, CLAIMS), "kid"),
    "unknown crit": (signed(HEADER | {"crit": ["x"], "x": 1}, CLAIMS), "critical_header"),
    "empty crit": (signed(HEADER | {"crit": []}, CLAIMS), "critical_header"),
    "unencoded payload": (signed(HEADER | {"b64": False}, CLAIMS), "critical_header"),
    "wrong typ": (signed(HEADER | {"typ": "secevent+jwt"}, CLAIMS), "type"),
    "typ a number": (signed(HEADER | {"typ": 1}, CLAIMS), "type"),
    "duplicated header member": (signed('{"alg":"RS256","alg":"RS256","kid":"RS256"}', CLAIMS), "malformed"),
    "duplicated claim": (signed(HEADER, json.dumps(CLAIMS)[:-1] + ',"sub":"sg_2"}'), "malformed"),
    "duplicated claim inside another": (signed(HEADER, json.dumps(CLAIMS)[:-1] + ',"x":{"a":1,"a":2}}'), "malformed"),
    "claims that are a list": (signed(HEADER, [CLAIMS]), "malformed"),
    "claims that are no JSON": (signed(HEADER, "exp=1"), "malformed"),
    "deep claims": (signed(HEADER, "[" * 3000), "malformed"),
    "a changed claim": (f"{HEAD}.{text(json.dumps(CLAIMS | {'sub': 'sg_2'}).encode())}.{SIGNATURE}", "signature"),
    "no signature": (f"{HEAD}.{BODY}.", "signature"),
    "half a signature": (f"{HEAD}.{BODY}.{SIGNATURE[:168]}", "signature"),
    "two parts": (f"{HEAD}.{BODY}", "malformed"),
    "five parts": (f"{GOOD}.{HEAD}.{BODY}", "malformed"),
    "padding": (f"{GOOD}==", "malformed"),
    "a space": (f"{GOOD} ", "malformed"),
    "a line feed": (f"{GOOD}\n", "malformed"),
    "the other base64 alphabet": (f"{HEAD}.{BODY}.{'+/' * 171}", "malformed"),
    "loose bits at the end": (GOOD[:-1] + chr(ord(GOOD[-1]) + 1), "malformed"),
    "characters beyond ASCII": (f"{HEAD}.{BODY}.\u00e9\u00e9\u00e9\u00e9", "malformed"),
    "nothing": ("", "malformed"),
    "dots": ("..", "malformed"),
    "garbage": ("\x00\xff" * 20, "malformed"),
    "9 kB": (signed(HEADER, CLAIMS | {"x": "y" * 9000}), "too_large"),
    "another issuer": (signed(HEADER, CLAIMS | {"iss": f"{ISSUER}/"}), "issuer"),
    "no issuer": (signed(HEADER, {k: v for k, v in CLAIMS.items() if k != "iss"}), "issuer"),
    "another audience": (signed(HEADER, CLAIMS | {"aud": "safevideo2"}), "audience"),
    "a list of other audiences": (signed(HEADER, CLAIMS | {"aud": ["safevideo2", "x"]}), "audience"),
    "an audience that contains ours": (signed(HEADER, CLAIMS | {"aud": {"safevideo": 1}}), "audience"),
    "no audience": (signed(HEADER, CLAIMS | {"aud": None}), "audience"),
    "no exp": (signed(HEADER, {k: v for k, v in CLAIMS.items() if k != "exp"}), "expiry"),
    "exp as text": (signed(HEADER, CLAIMS | {"exp": str(at(hours=1))}), "times"),
    "exp true": (signed(HEADER, CLAIMS | {"exp": True}), "times"),
    "exp null": (signed(HEADER, CLAIMS | {"exp": None}), "times"),
    "exp NaN": (signed(HEADER, CLAIMS | {"exp": float("nan")}), "malformed"),
    "exp infinite": (signed(HEADER, json.dumps(CLAIMS)[:-1].replace('"exp"', '"x"') + ',"exp":1e999}'), "times"),
    "exp too large for a float": (signed(HEADER, CLAIMS | {"exp": 10**400}), "times"),
    "exp of 5,000 digits": (signed(HEADER, json.dumps(CLAIMS)[:-1] + ',"x":' + "9" * 5000 + "}"), "malformed"),
    "half a character as subject": (signed(HEADER, CLAIMS | {"sub": "\ud800"}), "subject"),
    "exp negative": (signed(HEADER, CLAIMS | {"exp": -1}), "times"),
    "expired": (signed(HEADER, CLAIMS | {"exp": at(seconds=-60)}), "expired"),
    "iat in the future": (signed(HEADER, CLAIMS | {"iat": at(seconds=61)}), "issued_in_future"),
    "nbf in the future": (signed(HEADER, CLAIMS | {"nbf": at(seconds=61)}), "not_yet_valid"),
    "no subject": (signed(HEADER, {k: v for k, v in CLAIMS.items() if k != "sub"}), "subject"),
    "a subject that is a number": (signed(HEADER, CLAIMS | {"sub": 1}), "subject"),
    "an empty subject": (signed(HEADER, CLAIMS | {"sub": ""}), "subject"),
    "a long subject": (signed(HEADER, CLAIMS | {"sub": "s" * 256}), "subject"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
async def test_verifier_rejects_forged_and_malformed_tokens(
    verifier: TokenVerifier, fetches: list[int], name: str
) -> None:
    token, reason = FORGED[name]
    assert await refusal(verifier, token) == reason
    assert len(fetches) == 1  # of the start; none within the cooldown


@pytest.mark.parametrize("claim", [{"exp": at(seconds=-59)}, {"iat": at(seconds=60)}, {"nbf": at(seconds=60)}])
async def test_verifier_tolerates_a_minute_between_the_clocks(verifier: TokenVerifier, claim: dict[str, float]) -> None:
    assert (await verifier.verify(signed(HEADER, CLAIMS | claim), TokenKind.ACCESS)).subject == "sg_1"


async def test_verifier_accepts_eddsa_where_it_is_configured(logger: FilteringBoundLogger) -> None:
    async def fetch() -> bytes:
        return document(*KEYS)

    issuer = TokenIssuer(ISSUER, AUDIENCE, frozenset({"EdDSA"}))
    cache = JwksCache(fetch, issuer.algorithms, logger)
    verifier = TokenVerifier(issuer, cache, lambda: NOW)
    async with running_task(cache.run()):
        token = signed({"alg": "EdDSA", "kid": "EdDSA"}, CLAIMS, ED, "EdDSA")
        assert (await verifier.verify(token, TokenKind.ACCESS)).subject == "sg_1"
        assert await refusal(verifier, signed(HEADER, CLAIMS)) == "algorithm"


async def test_rejection_for_a_time_shows_our_clock(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidSharegramToken) as raised:
        await verifier.verify(signed(HEADER, CLAIMS | {"exp": at(hours=-1)}), TokenKind.ACCESS)
    assert raised.value.details == {"reason": "expired", "now": "2026-11-24T12:00:00.000Z"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nonce": "m"}, "nonce"),
        ({"nonce": 1}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": [AUDIENCE, "other"]}, "audience"),
        ({"aud": [AUDIENCE, "other"], "azp": "other"}, "audience"),
        ({"azp": "other"}, "audience"),
    ],
)
async def test_verifier_rejects_an_id_token_of_another_sign_in_or_client(
    verifier: TokenVerifier, change: dict[str, object], reason: str
) -> None:
    assert await refusal(verifier, signed(HEADER, CLAIMS | {"nonce": "n"} | change), TokenKind.ID) == reason


async def test_verifier_accepts_an_id_token_for_several_clients_that_we_asked_for(verifier: TokenVerifier) -> None:
    claims = CLAIMS | {"nonce": "n", "aud": [AUDIENCE, "other"], "azp": AUDIENCE}
    assert (await verifier.verify(signed(HEADER, claims), TokenKind.ID, nonce="n")).subject == "sg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"events": None},
        {"events": {}},
        {"events": [LOGOUT_EVENT]},
        {"events": {LOGOUT_EVENT: 1}},
        {"nonce": "n"},
        {"iat": None},
        {"exp": None},
        {"jti": None},
        {"jti": ""},
        {"jti": "\udfff"},
        {"sid": "\ud800"},
        {"sid": 1},
        {"sid": None, "sub": None},
    ],
)
async def test_verifier_rejects_an_incomplete_logout_token(verifier: TokenVerifier, change: dict[str, Any]) -> None:
    claims = {k: v for k, v in (CLAIMS | OF_KIND[TokenKind.LOGOUT] | change).items() if v is not None}
    await refusal(verifier, signed(HEADER, claims), TokenKind.LOGOUT)


def test_jwks_keeps_the_usable_keys() -> None:
    entries: list[Mapping[str, object]] = [
        *KEYS,
        jwk(RSA, "RS256", kid="encryption", use="enc"),
        jwk(RSA, "RS256", kid="signing only", key_ops=["sign"]),
        jwk(RSA, "RS256", kid="for PS256", alg="PS256"),
        jwk(RSA, "RS256", kid=7),
        {**jwk(RSA, "RS256", kid="broken"), "n": "!"},
        {**jwk(RSA, "RS256", kid="even"), "e": "Ag"},
        {"kty": "new", "kid": "of a new type"},
        {"kty": ["RSA"], "crv": {}, "kid": "of odd types"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": None, "kid": "without coordinates"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "not on the curve"},
        {"kty": "OKP", "crv": "Ed25519", "x": [], "kid": "of odd members"},
        {"kty": "RSA", "n": "", "e": "", "kid": "empty"},
        {"kty": "RSA", "n": "AQ" * 2000, "e": "AQAB", "kid": "huge", "use": ["sig"], "key_ops": "verify"},
        jwk(RSA, "RS256", kid="verifying", key_ops=["verify"]),
    ]
    assert set(parse_jwks(document(*entries), {"RS256", "ES256"})) == {"RS256", "ES256", "verifying"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        document(),
        document(*KEYS, {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}),
        document(*KEYS, {**jwk(OTHER_RSA, "RS256", kid="private"), "d": "AQAB"}),
        document(*KEYS, jwk(OTHER_RSA, "RS256")),
        document(*KEYS, *(jwk(RSA, "RS256", kid=str(number)) for number in range(64))),
        document(*KEYS) + b" " * (256 * 1024),
    ],
    ids=["nothing", "HTML", "list", "object", "numbers", "empty", "symmetric", "private", "doubled", "many", "large"],
)
def test_jwks_that_cannot_be_trusted_is_rejected(answer: bytes) -> None:
    with pytest.raises(JwksRejected):
        parse_jwks(answer, {"RS256", "ES256"})


def test_jwks_rejection_repeats_nothing_of_the_answer() -> None:
    secret = sha256(b"secret").hexdigest()
    with pytest.raises(JwksRejected) as raised:
        parse_jwks(document({"kty": "oct", "k": secret, "kid": "a"}), {"RS256"})
    assert secret not in str(raised.value)
