"""Encryption of what must not be readable in a database or on a disk.

It is Fernet (AES-128-CBC with HMAC-SHA256) from `cryptography`. The first key of `ENCRYPTION_KEY` encrypts, all keys
decrypt. To rotate a key, put the new one in front: `ENCRYPTION_KEY=new,old`.
"""

from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from safevideo_common.errors import SafeVideoError, StartupError


class DecryptionFailed(SafeVideoError):
    """No configured key decrypts the value: it was encrypted under another key, or is damaged."""


class Cipher:
    """Encryption and decryption of small values, such as a secret or the body of a webhook."""

    def __init__(self, keys: MultiFernet) -> None:
        self._keys = keys

    @classmethod
    def from_key(cls, encryption_key: str) -> Self:
        """Make a cipher of keys of 32 random bytes in URL-safe base64, comma-separated. Raises `StartupError`."""
        try:
            keys = [Fernet(key.strip()) for key in encryption_key.split(",")]
        except ValueError:
            raise StartupError(
                "ENCRYPTION_KEY must be 32 random bytes in URL-safe base64; several comma-separated, the newest first. "
                "Make one: python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            ) from None
        return cls(MultiFernet(keys))

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypt `plain`. The result is about a third longer and differs each time."""
        return self._keys.encrypt(plain)

    def decrypt(self, encrypted: bytes) -> bytes:
        """Decrypt with any of the keys. Raises `DecryptionFailed`."""
        try:
            return self._keys.decrypt(encrypted)
        except InvalidToken:
            raise DecryptionFailed("No key of ENCRYPTION_KEY opens this.") from None
