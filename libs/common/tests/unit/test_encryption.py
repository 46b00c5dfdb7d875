"""A value comes back under any key that is listed, and under no other."""

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import StartupError

NEW, OLD = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@given(st.binary(max_size=200))
def test_a_value_comes_back(plain: bytes) -> None:
    cipher = Cipher.of(NEW)
    assert cipher.decrypt(cipher.encrypt(plain)) == plain


def test_the_same_value_looks_different_each_time() -> None:
    cipher = Cipher.of(NEW)
    assert cipher.encrypt(b"x") != cipher.encrypt(b"x")


def test_after_a_rotation_the_old_key_still_opens_and_the_new_one_closes() -> None:
    rotated = Cipher.of(f"{NEW}, {OLD}")
    assert rotated.decrypt(Cipher.of(OLD).encrypt(b"x")) == b"x"
    with pytest.raises(DecryptionFailed):
        Cipher.of(OLD).decrypt(rotated.encrypt(b"x"))


@pytest.mark.parametrize(
    "key", ["", "short", f"{NEW},", "ä" * 44, NEW[:-2]], ids=["empty", "short", "a comma", "no ASCII", "cut off"]
)
def test_a_key_of_another_shape_stops_the_start_without_being_shown(key: str) -> None:
    with pytest.raises(StartupError) as refused:
        Cipher.of(key)
    assert "ENCRYPTION_KEY must be" in str(refused.value)
    assert key == "" or key not in str(refused.value)
