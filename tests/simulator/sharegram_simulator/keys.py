"""Signing keys: made when first needed, off the event loop, and published as a JWKS until they are retired."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

AlgorithmName = Literal["RS256", "ES256", "EdDSA"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

GENERATORS: Final[Mapping[AlgorithmName, Callable[[], PrivateKey]]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
PUBLISHED_LIMIT: Final = 16
"""Keys in the JWKS; with one more the oldest is retired."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair under its id."""

    kid: str
    algorithm: AlgorithmName
    private: PrivateKey

    def sign(self, message: bytes) -> bytes:
        """The signature as JWS wants it."""
        return get_default_algorithms()[self.algorithm].sign(message, self.private)

    def jwk(self) -> dict[str, object]:
        """The public half, for the JWKS."""
        public = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def public_pem(self) -> bytes:
        """The public half as PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class KeyRing:
    """The published keys, newest last; the newest signs."""

    def __init__(self) -> None:
        self._keys: list[SigningKey] = []
        self._stranger: SigningKey | None = None
        self._making = asyncio.Lock()

    async def published(self) -> Sequence[SigningKey]:
        """Every key that tokens may name."""
        async with self._making:
            if not self._keys:
                self._keys.append(await _make("RS256"))
        return tuple(self._keys)

    async def signing(self, kid: str | None = None) -> SigningKey:
        """The published key of this id; the newest where there is none."""
        keys = await self.published()
        return next((key for key in keys if key.kid == kid), keys[-1])

    async def stranger(self) -> SigningKey:
        """A key that is never published: its signatures are well made and worth nothing."""
        async with self._making:
            if self._stranger is None:
                self._stranger = await _make("RS256")
        return self._stranger

    async def rotate(self, algorithm: AlgorithmName, *, keep_old: bool) -> Sequence[SigningKey]:
        """Sign with a new key from now on. The old ones stay published unless told otherwise."""
        new = await _make(algorithm)
        # Nothing awaits between reading the old keys and replacing them: a rotation beside this one is not lost.
        old = await self.published() if keep_old else ()
        self._keys = [*old, new][-PUBLISHED_LIMIT:]
        return tuple(self._keys)


async def _make(algorithm: AlgorithmName) -> SigningKey:
    return SigningKey(uuid4().hex[:16], algorithm, await asyncio.to_thread(GENERATORS[algorithm]))
