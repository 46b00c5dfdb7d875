"""The secrets that webhooks are signed with, as the schemes need them."""

import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Final

STANDARD_PREFIX: Final = "whsec_"
ENVIRONMENT_PREFIX: Final = "env-"
"""Begins the name of each secret that the environment holds, and of no other."""

MIN_STANDARD_BYTES: Final = 16
"""Fewer in a `whsec_` secret are a mistake or a joke; the Standard Webhooks specification asks senders for 24."""

_NAME_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """One of the secrets that are valid at present, with the name it goes by in logs. Its repr shows no key.

    `key` is the secret as it was agreed, to the byte. Raises `ValueError`, which quotes nothing of it, when it is
    empty, or begins with `whsec_` and does not go on in padded canonical base64 of `MIN_STANDARD_BYTES` or more.
    """

    name: str
    key: bytes = field(repr=False)
    standard_key: bytes = field(init=False, repr=False, compare=False)
    """For the Standard Webhooks scheme: the bytes that a `whsec_` secret encodes; any other secret itself."""

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("an empty secret would let anyone in")
        object.__setattr__(self, "standard_key", _standard_key(self.key))


def environment_secrets(setting: str) -> tuple[WebhookSecret, ...]:
    """The secrets of `SHAREGRAM_WEBHOOK_SECRET`, comma-separated, in the order given: the newest usually stands first.

    Raises `ValueError` as `WebhookSecret` does.
    """
    keys = [part.strip().encode() for part in setting.split(",")]
    return tuple(WebhookSecret(_environment_name(key), key) for key in keys)


def _environment_name(key: bytes) -> str:
    """The same wherever and at whatever place the secret is given, so that "last used" outlives restarts and rotations.

    24 bits of a keyed hash: enough to tell a handful of secrets apart, of no use for finding one.
    """
    return ENVIRONMENT_PREFIX + hmac.digest(key, b"name of a webhook secret", "sha256").hex()[:_NAME_DIGITS]


def _standard_key(key: bytes) -> bytes:
    prefix = STANDARD_PREFIX.encode()
    if not key.startswith(prefix):
        return key
    decoded = _decoded(key.removeprefix(prefix))
    if len(decoded) < MIN_STANDARD_BYTES:
        raise ValueError(
            f"a secret that begins with {STANDARD_PREFIX} must go on in padded canonical base64 "
            f"of {MIN_STANDARD_BYTES} bytes or more"
        )
    return decoded


def _decoded(encoded: bytes) -> bytes:
    """What it encodes; nothing where it is not the one way to encode that."""
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError:
        return b""
    return decoded if b64encode(decoded) == encoded else b""
