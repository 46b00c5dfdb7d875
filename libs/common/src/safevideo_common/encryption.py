"""What must not be readable in a database or on a disk: encrypted with `ENCRYPTION_KEY`, authenticated, key by key.

Fernet (AES-128-CBC with HMAC-SHA256) by way of `cryptography`. The first key encrypts, all of them decrypt, so a key is
rotated by putting a new one in front: `ENCRYPTION_KEY=new,old`.
"""

from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from safevideo_common.errors import SafeVideoError, StartupError


class DecryptionFailed(SafeVideoError):
    """No key at hand opens this: it was written under another one, or is damaged."""


class Cipher:
    """Encrypts and decrypts small values, such as a secret or a webhook's body."""

    def __init__(self, keys: MultiFernet) -> None:
        self._keys = keys

    @classmethod
    def of(cls, encryption_key: str) -> Self:
        """From the setting: keys of 32 random bytes in URL-safe base64, comma-separated. Raises `StartupError`."""
        try:
            keys = [Fernet(key.strip()) for key in encryption_key.split(",")]
        except ValueError:
            raise StartupError(
                "ENCRYPTION_KEY must be 32 random bytes in URL-safe base64; several comma-separated, the newest first. "
                "Make one: python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            ) from None
        return cls(MultiFernet(keys))

    def encrypt(self, plain: bytes) -> bytes:
        """About a third longer than `plain`; differs each time."""
        return self._keys.encrypt(plain)

    def decrypt(self, encrypted: bytes) -> bytes:
        """Inverse of `encrypt`, under any of the keys. Raises `DecryptionFailed`."""
        try:
            return self._keys.decrypt(encrypted)
        except InvalidToken:
            raise DecryptionFailed("No key of ENCRYPTION_KEY opens this.") from None
