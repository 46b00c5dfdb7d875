"""Tokens of a provider with a claim at an end of its type: each holds, or is refused by naming the check."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms

from safevideo_common.auth.jwks import JwksCache
from safevideo_common.auth.tokens import LOGOUT_EVENT, TokenIssuer, TokenKind, TokenVerifier, VerifiedToken
from safevideo_common.clock import rfc3339
from safevideo_common.errors import InvalidSharegramToken
from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.fuzz.ends import ends_of

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISSUER, AUDIENCE = "https://sharegram.example", "safevideo"
KEY: Final = ec.generate_private_key(ec.SECP256R1())
ES256: Final = get_default_algorithms()["ES256"]
HEADER: Final = b'{"alg":"ES256","kid":"k"}'
Id = Annotated[str, msgspec.Meta(max_length=255)]


class Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    sub: Id
    iat: float
    exp: float
    nbf: float
    sid: Id
    jti: Id
    nonce: str
    azp: str
    events: dict[str, dict[str, int]]


OF_ALL: Final = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "sg_1",
    "iat": NOW.timestamp(),
    "exp": NOW.timestamp() + 60,
    "sid": "s",
}
EXAMPLES: Final[dict[TokenKind, dict[str, object]]] = {
    TokenKind.ACCESS: OF_ALL,
    TokenKind.ID: OF_ALL | {"nonce": "n", "azp": AUDIENCE},
    TokenKind.LOGOUT: OF_ALL | {"jti": "j", "events": {LOGOUT_EVENT: {}}},
}


def signed(claims: bytes) -> str:
    message = b".".join(urlsafe_b64encode(each).rstrip(b"=") for each in (HEADER, claims))
    return f"{message.decode()}.{urlsafe_b64encode(ES256.sign(message, KEY)).rstrip(b'=').decode()}"


@pytest.fixture
async def verifier(tmp_path: Path) -> TokenVerifier:
    public = ES256.to_jwk(KEY.public_key(), as_dict=True) | {"use": "sig", "kid": "k", "alg": "ES256"}

    async def fetch() -> bytes:
        return msgspec.json.encode({"keys": [public]})

    async def is_loaded() -> bool:
        return keys.is_loaded

    sink = LogSink(tmp_path, stdout=False)
    keys = JwksCache(fetch, {"ES256"}, build_logger("test", sink), cooldown_seconds=3600)
    async with running_task(keys.run()):
        await eventually(is_loaded)
    sink.close()
    return TokenVerifier(TokenIssuer(ISSUER, AUDIENCE, frozenset({"ES256"})), keys, lambda: NOW)


@pytest.mark.parametrize("kind", TokenKind)
async def test_every_token_with_a_claim_at_an_end_holds_or_is_refused(verifier: TokenVerifier, kind: TokenKind) -> None:
    held = 0
    for end in ends_of(Claims, EXAMPLES[kind]):
        if len(end.document) > 6_000:
            continue  # over the limit of a token, which is tried elsewhere
        try:
            token = await verifier.verify(signed(end.document), kind, nonce="n")
        except InvalidSharegramToken as error:
            if not (error.details or {}).get("reason"):
                raise
            continue
        check_usable(token, end.path)
        held += 1
    assert held > 20


def check_usable(token: VerifiedToken, place: str) -> None:
    """Check what the sign-in does with a token that holds: ids become keys of Redis and columns, times are told."""
    is_logout = "events" in token.claims  # only then anybody reads its jti
    for value in (token.subject, token.claims.get("sid"), token.claims.get("jti") if is_logout else None):
        if isinstance(value, str):
            assert len(value.encode()) <= 4 * 255, place
    for at in (token.issued_at, token.expires_at):
        assert at is None or rfc3339(at), place
