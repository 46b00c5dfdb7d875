"""The secrets that sign webhooks, in the form that the schemes need."""

import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Final

STANDARD_PREFIX: Final = "whsec_"
ENVIRONMENT_PREFIX: Final = "env-"
"""Prefix of the name of every secret of the environment, and of no other."""

MIN_STANDARD_BYTES: Final = 16
"""Minimum length of a `whsec_` secret. The Standard Webhooks specification asks senders for 24 bytes."""

_NAME_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A valid secret and its name for logs. The repr shows no key.

    `key` is the secret byte for byte. Raises `ValueError`, without quoting the key, if it is empty. Raises it too if
    the key begins with `whsec_` and the rest is not padded canonical base64 of `MIN_STANDARD_BYTES` or more.
    """

    name: str
    key: bytes = field(repr=False)
    standard_key: bytes = field(init=False, repr=False, compare=False)
    """The key for the Standard Webhooks scheme: the bytes that a `whsec_` secret encodes, else `key`."""

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("an empty secret would let anyone in")
        object.__setattr__(self, "standard_key", _standard_key(self.key))


def environment_secrets(setting: str) -> tuple[WebhookSecret, ...]:
    """Return the comma-separated secrets of `SHAREGRAM_WEBHOOK_SECRET` in their order; usually the newest is first.

    Raises `ValueError` as `WebhookSecret` does.
    """
    keys = [part.strip().encode() for part in setting.split(",")]
    return tuple(WebhookSecret(name_of_secret(key), key) for key in keys)


def name_of_secret(key: bytes) -> str:
    """Return a name that depends on the secret alone, so that "last used" survives restarts and rotations.

    24 bits of a keyed hash distinguish a few secrets and do not help to find one.
    """
    return ENVIRONMENT_PREFIX + hmac.digest(key, b"name of a webhook secret", "sha256").hex()[:_NAME_DIGITS]


def _standard_key(key: bytes) -> bytes:
    prefix = STANDARD_PREFIX.encode()
    if not key.startswith(prefix):
        return key
    decoded = _decode_canonical(key.removeprefix(prefix))
    if len(decoded) < MIN_STANDARD_BYTES:
        raise ValueError(
            f"a secret that begins with {STANDARD_PREFIX} must go on in padded canonical base64 "
            f"of {MIN_STANDARD_BYTES} bytes or more"
        )
    return decoded


def _decode_canonical(encoded: bytes) -> bytes:
    """Return the decoded bytes, or no bytes if `encoded` is not their canonical base64 form."""
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError:
        return b""
    return decoded if b64encode(decoded) == encoded else b""
