"""Token verification beside a bare `jwt.decode` of PyJWT with the same key: `python tests/load/token_bench.py`."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter, time
from typing import Final

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from safevideo_common.auth.jwks import JwksCache
from safevideo_common.auth.tokens import TokenIssuer, TokenKind, TokenVerifier
from safevideo_common.clock import utc_now
from safevideo_common.errors import InvalidSharegramToken
from safevideo_common.tasks import running_task

ISSUER, AUDIENCE = "https://sharegram.example", "safevideo"
ROUNDS, CALLS = 21, 500
LIMIT: Final = 1.3
"""Times the bare decode."""
FLOOD_SHARE: Final = 0.9
"""Of the throughput without unknown keys."""
UNKNOWN_PER_SECOND: Final = 1000


def make_token(private: rsa.RSAPrivateKey) -> str:
    """Return an access token as the simulator issues them."""
    now = int(time())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "sg_1", "iat": now, "exp": now + 3600, "jti": "0" * 32,
        "email": "jane@example.com", "email_verified": True, "name": "Jane", "preferred_username": "jane",
    }  # fmt: skip
    return jwt.encode(claims, private, "RS256", headers={"kid": "1"})


async def measure(call: Callable[[], Awaitable[object]]) -> float:
    """Return the microseconds of a call."""
    started = perf_counter()
    for _ in range(CALLS):
        await call()
    return (perf_counter() - started) / CALLS * 1e6


async def main() -> None:
    """Measure both in turns, then our verification in a flood of unknown `kid`s; print and check the ratios."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key()
    token = make_token(private)
    document = json.dumps({"keys": [RSAAlgorithm.to_jwk(public, as_dict=True) | {"kid": "1", "key_ops": ["verify"]}]})
    head = urlsafe_b64encode(b'{"alg":"RS256","kid":"unknown"}').rstrip(b"=").decode()
    unknown = f"{head}.{token.split('.', 1)[1]}"

    async def fetch() -> bytes:
        return document.encode()

    async def bare() -> object:
        return jwt.decode(token, public, ["RS256"], audience=AUDIENCE, issuer=ISSUER)

    keys = JwksCache(fetch, {"RS256"}, structlog.get_logger())
    verifier = TokenVerifier(TokenIssuer(ISSUER, AUDIENCE, frozenset({"RS256"})), keys, utc_now)

    async def ours() -> object:
        return await verifier.verify(token, TokenKind.ACCESS)

    async def refused() -> None:
        try:
            await verifier.verify(unknown, TokenKind.ACCESS)
        except InvalidSharegramToken:
            return

    async with running_task(keys.run(), "keys"):
        await ours()
        rounds = [(await measure(bare), await measure(ours), await measure(refused)) for _ in range(ROUNDS)]
    bare_us, ours_us, refused_us = (median(each) for each in zip(*rounds, strict=True))
    left = 1 - UNKNOWN_PER_SECOND * refused_us / 1e6
    print(f"bare jwt.decode {bare_us:.1f} µs, ours {ours_us:.1f} µs: {ours_us / bare_us:.2f} times (limit {LIMIT})")
    print(f"an unknown kid {refused_us:.1f} µs; {UNKNOWN_PER_SECOND}/s leave {left:.3f} (limit {FLOOD_SHARE})")
    if ours_us > LIMIT * bare_us or left < FLOOD_SHARE:
        raise SystemExit("over a limit")


if __name__ == "__main__":
    asyncio.run(main())
