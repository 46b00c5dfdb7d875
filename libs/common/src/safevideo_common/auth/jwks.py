"""The signing keys of an identity provider (JWKS, RFC 7517): parsed strictly, fetched in the background.

Guarantees:

- No request fetches. One task does, and between two fetches at least the cooldown passes, also after a failed one.
- An unknown `kid` causes a fetch: at once if none was made within the cooldown, otherwise when the cooldown ends.
- An answer that cannot be trusted replaces nothing, so known keys stay valid while the address fails.
- A key that a good answer lacks is not accepted any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWK
from jwt.algorithms import Algorithm

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import wait_event

FETCH_SECONDS: Final = 5.0
MAX_JWKS_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 64
MAX_KID_LENGTH: Final = 255
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""Larger keys make a signature check so slow that tokens could be used to stop the process."""

COOLDOWN_SECONDS: Final = 10.0
REFRESH_SECONDS: Final = 300.0
WAIT_SECONDS: Final = 1.0
"""The longest time that a request waits for a fetch in progress. It is shorter than the timeout of a fetch."""

FIRST_COOLDOWN_SECONDS: Final = 1.0
"""The cooldown until the first good answer: nobody can sign in before it."""

RETRY: Final = Backoff(initial=COOLDOWN_SECONDS, maximum=REFRESH_SECONDS)

_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_ALGORITHM_OF: Final[Mapping[tuple[object, object], str]] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
ALGORITHMS: Final = frozenset(_ALGORITHM_OF.values())
"""All that can be allowed: asymmetric algorithms only (contract, §3)."""

JwksFetch = Callable[[], Awaitable[bytes]]
"""Returns the document. Raises `OSError`, `ClientError`, `ValueError` or `JwksRejected`."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class JwksRejected(Exception):
    """The answer cannot be trusted; the message says why and repeats nothing of it."""


class SigningKeysUnavailable(ServiceUnavailable):
    """No key of the provider has been loaded yet, so no token can be checked."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, bound to the one algorithm that it is for."""

    kid: str
    algorithm: str
    public: PublicKey
    implementation: Algorithm

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether `signature` is this key's signature of `message`."""
        return self.implementation.verify(message, self.public, signature)


def parse_jwks(document: bytes, allowed: Collection[str]) -> dict[str, VerificationKey]:
    """Return the usable keys by `kid`. Raises `JwksRejected` for an answer that must replace nothing.

    A key of another type, algorithm or use is left out, as RFC 7517 wants. So is one that is too weak, or has no `kid`.
    """
    if len(document) > MAX_JWKS_BYTES:
        raise JwksRejected("it is too large")
    try:
        answer = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise JwksRejected("it is not JSON") from None
    entries = answer.get("keys") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise JwksRejected("it has no list of keys")
    if len(entries) > MAX_KEYS:
        raise JwksRejected("it has too many keys")
    if any(entry.get("kty") == "oct" or _PRIVATE_MEMBERS & entry.keys() for entry in entries):
        raise JwksRejected("it has a symmetric or private key")
    kids = [entry["kid"] for entry in entries if isinstance(entry.get("kid"), str)]
    if len(set(kids)) < len(kids):
        raise JwksRejected("it has a kid twice")
    keys = {key.kid: key for entry in entries if (key := _usable(entry, allowed)) is not None}
    if not keys:
        raise JwksRejected("it has no usable key")
    return keys


def _usable(entry: Mapping[str, object], allowed: Collection[str]) -> VerificationKey | None:
    kid, key_ops = entry.get("kid"), entry.get("key_ops", ["verify"])
    kind, curve = entry.get("kty"), entry.get("crv")
    is_named = isinstance(kind, str) and isinstance(curve, str | None)
    algorithm = _ALGORITHM_OF.get((kind, curve)) if is_named else None
    is_for_signatures = entry.get("use", "sig") == "sig" and isinstance(key_ops, list) and "verify" in key_ops
    if not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_LENGTH and is_for_signatures):
        return None
    if algorithm is None or algorithm not in allowed or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        key = PyJWK(dict(entry), algorithm)
    except Exception:  # noqa: BLE001 - a malformed key may fail in any way, and must not end the task that fetches
        return None
    public = key.key
    if isinstance(public, rsa.RSAPublicKey):
        exponent = public.public_numbers().e
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS or exponent < 3 or exponent % 2 == 0:
            return None
    elif not isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return None
    return VerificationKey(kid, algorithm, public, key.Algorithm)


def http_fetch(http: ClientSession, url: str) -> JwksFetch:
    """Return a fetch of `url`, bounded in time and bytes. It follows no redirect."""

    async def fetch() -> bytes:
        timeout = ClientTimeout(total=FETCH_SECONDS)
        async with http.get(url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise JwksRejected(f"its status is {response.status}")
            document = b""
            async for chunk in response.content.iter_chunked(16 * 1024):
                document += chunk
                if len(document) > MAX_JWKS_BYTES:
                    raise JwksRejected("it is too large")
            return document

    return fetch


class JwksCache:
    """The keys of one provider. `run` must run beside its users."""

    def __init__(
        self,
        fetch: JwksFetch,
        allowed: Collection[str],
        logger: FilteringBoundLogger,
        *,
        cooldown_seconds: float = COOLDOWN_SECONDS,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._allowed = frozenset(allowed)
        self._logger = logger
        self._cooldown_seconds = cooldown_seconds
        self._refresh_seconds = refresh_seconds
        self._keys: Mapping[str, VerificationKey] = {}
        self._fetch_done = asyncio.Event()
        self._fetch_requested = asyncio.Event()
        self._is_cooling_down = False

    @property
    def is_loaded(self) -> bool:
        """Return whether there is any key."""
        return bool(self._keys)

    def find(self, kid: str) -> VerificationKey | None:
        """Return a key that is loaded already."""
        return self._keys.get(kid)

    async def load(self, kid: str) -> VerificationKey | None:
        """Return the key `kid`, or None if the provider does not have it.

        It waits for a fetch in progress for at most `WAIT_SECONDS`, and not at all during the cooldown. Raises
        `SigningKeysUnavailable` if no answer of the provider was good yet.
        """
        if (key := self._keys.get(kid)) is not None:
            return key
        self._fetch_requested.set()
        if not self._is_cooling_down:
            await wait_event(self._fetch_done, WAIT_SECONDS)
        if not self._keys:
            raise SigningKeysUnavailable("The keys of the identity provider are not loaded yet.", retry_after=5)
        return self._keys.get(kid)

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        failures = 0
        while True:
            failures = 0 if await self._refresh() else failures + 1
            self._is_cooling_down = True
            self._fetch_requested.clear()
            self._fetch_done.set()
            self._fetch_done = asyncio.Event()
            cooldown = self._cooldown_seconds if self._keys else FIRST_COOLDOWN_SECONDS
            await asyncio.sleep(cooldown)
            self._is_cooling_down = False
            pause = RETRY.delay(failures) if failures else self._refresh_seconds - cooldown
            await wait_event(self._fetch_requested, max(pause, 0.0))

    async def _refresh(self) -> bool:
        try:
            self._keys = parse_jwks(await self._fetch(), self._allowed)
        except (ClientError, OSError, ValueError, JwksRejected) as error:  # `ValueError`: no name that can be resolved
            reason = str(error) if isinstance(error, JwksRejected) else type(error).__name__
            self._logger.warning("Signing keys not refreshed", code="JWKS_NOT_REFRESHED", reason=reason)
            return False
        return True
