"""A value comes back under any key that is listed, and under no other."""

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import StartupError

NEW, OLD = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@given(st.binary(max_size=200))
def test_cipher_decrypts_what_it_encrypted(plain: bytes) -> None:
    cipher = Cipher.from_key(NEW)
    assert cipher.decrypt(cipher.encrypt(plain)) == plain


def test_cipher_encrypts_the_same_value_differently_each_time() -> None:
    cipher = Cipher.from_key(NEW)
    assert cipher.encrypt(b"x") != cipher.encrypt(b"x")


def test_rotated_cipher_decrypts_with_the_old_key_and_encrypts_with_the_new() -> None:
    rotated = Cipher.from_key(f"{NEW}, {OLD}")
    assert rotated.decrypt(Cipher.from_key(OLD).encrypt(b"x")) == b"x"
    with pytest.raises(DecryptionFailed):
        Cipher.from_key(OLD).decrypt(rotated.encrypt(b"x"))


@pytest.mark.parametrize(
    "key", ["", "short", f"{NEW},", "ä" * 44, NEW[:-2]], ids=["empty", "short", "a comma", "no ASCII", "cut off"]
)
def test_malformed_key_raises_startup_error_without_showing_it(key: str) -> None:
    with pytest.raises(StartupError) as refused:
        Cipher.from_key(key)
    assert "ENCRYPTION_KEY must be" in str(refused.value)
    assert key == "" or key not in str(refused.value)
