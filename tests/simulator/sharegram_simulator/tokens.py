"""Tokens as Sharegram issues them, and bad ones on purpose: put together by hand, as a JWT library refuses to lie."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import uuid4

import orjson

from sharegram_simulator.clock import utc_now
from sharegram_simulator.keys import KeyRing, SigningKey

LIFETIME_SECONDS: Final = 3600

Signing = Literal["right", "wrong", "none"]


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """The requested token. A claim or header field that is null is left out of it."""

    claims: Mapping[str, object] = field(default_factory=dict)
    header: Mapping[str, object] = field(default_factory=dict)
    expires_in: int = LIFETIME_SECONDS
    """Seconds from now; negative for a token that has expired."""
    sign: Signing = "right"


class TokenIssuer:
    """Signs tokens in the name of one issuer for one audience."""

    def __init__(self, keys: KeyRing, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def issue(self, order: TokenOrder) -> str:
        """The token: right in everything that the order does not override."""
        kid = order.header.get("kid")
        key = await self._keys.signing(kid if isinstance(kid, str) else None)
        algorithm = "none" if order.sign == "none" else key.algorithm
        header = _present({"typ": "JWT", "alg": algorithm, "kid": key.kid, **order.header})
        claims = _present({**self._usual_claims(order.expires_in), **order.claims})
        signed = f"{_base64url(orjson.dumps(header))}.{_base64url(orjson.dumps(claims))}"
        signature = await self._signature(signed.encode(), key, header.get("alg"), order.sign)
        return f"{signed}.{_base64url(signature)}"

    def _usual_claims(self, expires_in: int) -> dict[str, object]:
        now = int(utc_now().timestamp())
        return {
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + expires_in,
            "jti": uuid4().hex,
        }

    async def _signature(self, message: bytes, key: SigningKey, algorithm: object, sign: Signing) -> bytes:
        if sign == "none" or algorithm == "none":
            return b""
        if sign == "wrong":
            return (await self._keys.stranger()).sign(message)
        if algorithm == "HS256":
            # The classic confusion: who believes the header takes the public key for a shared secret.
            return hmac.digest(key.public_pem(), message, "sha256")
        return key.sign(message)


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
