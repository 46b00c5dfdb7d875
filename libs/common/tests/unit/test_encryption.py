"""A value opens for its purpose and its row, under any key that is listed, and for nothing else."""

import os
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.encryption import Cipher, DecryptionFailed, EncryptionKeys, Purpose
from safevideo_common.errors import StartupError


def new_key() -> str:
    return urlsafe_b64encode(os.urandom(32)).decode()


NEW, OLD = new_key(), new_key()


def cipher_of(keys: str, purpose: Purpose = Purpose.WEBHOOK_SECRET) -> Cipher:
    return EncryptionKeys.parse(keys).cipher(purpose)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_cipher_decrypts_what_it_encrypted(plain: bytes, row: str) -> None:
    cipher = cipher_of(NEW)
    assert cipher.decrypt(cipher.encrypt(plain, row), row) == plain


def test_cipher_encrypts_the_same_value_differently_each_time() -> None:
    cipher = cipher_of(NEW)
    assert cipher.encrypt(b"x", "1") != cipher.encrypt(b"x", "1")


def test_rotated_cipher_decrypts_with_the_old_key_and_encrypts_with_the_new() -> None:
    rotated = cipher_of(f"{NEW}, {OLD}")
    assert rotated.decrypt(cipher_of(OLD).encrypt(b"x", "1"), "1") == b"x"
    with pytest.raises(DecryptionFailed):
        cipher_of(OLD).decrypt(rotated.encrypt(b"x", "1"), "1")


@pytest.mark.parametrize("other", [each for each in Purpose if each is not Purpose.QUARANTINED_WEBHOOK])
def test_value_of_one_purpose_does_not_open_for_another(other: Purpose) -> None:
    encrypted = cipher_of(NEW, Purpose.QUARANTINED_WEBHOOK).encrypt(b"attacker-chosen-secret", "1")
    with pytest.raises(DecryptionFailed):
        cipher_of(NEW, other).decrypt(encrypted, "1")


def test_value_of_one_row_does_not_open_in_another() -> None:
    cipher = cipher_of(NEW)
    with pytest.raises(DecryptionFailed):
        cipher.decrypt(cipher.encrypt(b"x", "1/a"), "1/b")


@given(st.data())
def test_changed_or_cut_value_does_not_open(data: st.DataObject) -> None:
    cipher = cipher_of(NEW)
    encrypted = bytearray(cipher.encrypt(b"a secret", "1"))
    place = data.draw(st.integers(0, len(encrypted) - 1))
    cut = bytes(encrypted[:place])
    encrypted[place] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (cut, bytes(encrypted)):
        with pytest.raises(DecryptionFailed):
            cipher.decrypt(damaged, "1")


@pytest.mark.parametrize(
    "key",
    ["", "short", f"{NEW},", "ä" * 44, NEW[:-2], NEW + OLD, f"{NEW} {OLD}"],
    ids=["empty", "short", "a comma", "no ASCII", "cut off", "two without a comma", "two with a space"],
)
def test_malformed_key_raises_startup_error_without_showing_it(key: str) -> None:
    with pytest.raises(StartupError) as refused:
        EncryptionKeys.parse(key)
    assert "ENCRYPTION_KEY must be" in str(refused.value)
    assert key == "" or key not in str(refused.value)
