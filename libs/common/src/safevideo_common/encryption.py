"""Encryption of what must not be readable in a database or on a disk.

Each purpose has a key of its own, derived from a key of `ENCRYPTION_KEY` with HKDF (RFC 5869). Each value is bound to
its row. So a value opens for the purpose and row for which it was encrypted and nowhere else, whoever copies it.

The cipher is AES-256-GCM from `cryptography`. The first key of `ENCRYPTION_KEY` encrypts, all keys decrypt. To rotate a
key, put the new one in front: `ENCRYPTION_KEY=new,old`.

A value is: version (1 byte), key id (4), nonce (12), ciphertext, tag (16).
"""

import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safevideo_common.errors import SafeVideoError, StartupError

_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")  # `urlsafe_b64decode` would skip what is no base64


class Purpose(StrEnum):
    """The purpose of an encrypted value. A new purpose is a new line; the text of an old one never changes."""

    WEBHOOK_SECRET = "webhook-secret"  # noqa: S105 - a name
    QUARANTINED_WEBHOOK = "quarantined-webhook"
    KYC_APPLICANT = "kyc-applicant"
    KYC_DOCUMENT = "kyc-document"
    SHAREGRAM_CREDENTIALS = "sharegram-credentials"


class DecryptionFailed(SafeVideoError):
    """No configured key opens the value: another key, purpose or row encrypted it, or it is damaged."""


class EncryptionKeys:
    """The keys of `ENCRYPTION_KEY`, newest first, from which the key of each purpose is derived."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def parse(cls, encryption_key: str) -> Self:
        """Read keys of 32 random bytes in URL-safe base64, comma-separated. Raises `StartupError`."""
        texts = [text.strip() for text in encryption_key.split(",")]
        if not all(_KEY.fullmatch(text) for text in texts):
            raise StartupError(
                "ENCRYPTION_KEY must be 32 random bytes in URL-safe base64; several comma-separated, the newest first. "
                "Make one: python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            )
        return cls([urlsafe_b64decode(text) for text in texts])

    def cipher(self, purpose: Purpose) -> "Cipher":
        """Return the cipher of one purpose."""
        return Cipher({_derive(key, f"id of {purpose}")[:_KEY_ID_BYTES]: _derive(key, purpose) for key in self._keys})


class Cipher:
    """Encryption and decryption of values of one purpose, such as secrets or the bodies of webhooks."""

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        """`keys` has the 32 bytes of each key by its id, the one that encrypts first."""
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._newest = next(iter(self._ciphers))

    def encrypt(self, plain: bytes, row: str) -> bytes:
        """Encrypt `plain` for `row`, which names it among all values of this purpose. The result differs each time."""
        header = _VERSION + self._newest + os.urandom(_NONCE_BYTES)
        encrypted = self._ciphers[self._newest].encrypt(header[-_NONCE_BYTES:], plain, _associated(header, row))
        return header + encrypted

    def decrypt(self, encrypted: bytes, row: str) -> bytes:
        """Decrypt what was encrypted for `row`. Raises `DecryptionFailed`."""
        header, ciphertext = encrypted[:_HEADER_BYTES], encrypted[_HEADER_BYTES:]
        cipher = self._ciphers.get(header[len(_VERSION) : -_NONCE_BYTES])
        if len(header) < _HEADER_BYTES or not header.startswith(_VERSION) or cipher is None:
            raise DecryptionFailed("No key of ENCRYPTION_KEY opens this.")
        try:
            return cipher.decrypt(header[-_NONCE_BYTES:], ciphertext, _associated(header, row))
        except InvalidTag:
            raise DecryptionFailed("This was encrypted for something else, or is damaged.") from None


def _derive(key: bytes, info: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"safevideo {info}".encode()).derive(key)


def _associated(header: bytes, row: str) -> bytes:
    return header[: len(_VERSION) + _KEY_ID_BYTES] + row.encode()
