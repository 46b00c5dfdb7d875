"""Secrets as they are written, and what is refused as one."""

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.webhooks.signatures import WebhookSecret, environment_secrets

BYTES = bytes(range(250, 256)) * 4
WHSEC = "whsec_" + b64encode(BYTES).decode()


def test_a_whsec_secret_encodes_the_key_of_the_standard_scheme() -> None:
    secret = WebhookSecret("one", WHSEC.encode())
    assert (secret.key, secret.standard_key) == (WHSEC.encode(), BYTES)


@given(st.binary(min_size=1).filter(lambda key: not key.startswith(b"whsec_")))
def test_any_other_secret_is_its_own_key(key: bytes) -> None:
    assert WebhookSecret("one", key).standard_key == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_not base64 at all!",
        WHSEC + "=",
        WHSEC + "\n",
        WHSEC[:-1],
        WHSEC.replace("+", "-").replace("/", "_"),
        "whsec_" + "A" * 25 + "B=" + "=",  # bits that no byte holds
        "whsec_" + b64encode(b"fifteen bytes!!").decode(),
        "whsec_" + "é" * 24,
    ],
)
def test_an_improper_secret_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError) as refusal:
        WebhookSecret("one", secret.encode())
    assert len(secret) < 7 or secret[6:] not in str(refusal.value)


@given(st.binary(max_size=64))
def test_whatever_begins_with_whsec_is_a_secret_or_a_value_error(rest: bytes) -> None:
    with suppress(ValueError):
        assert len(WebhookSecret("one", b"whsec_" + rest).standard_key) >= 16


def test_a_secret_is_not_shown_where_it_is_printed() -> None:
    assert repr(WebhookSecret("one", b"the-secret")) == "WebhookSecret(name='one')"


def test_the_environment_holds_several_which_are_known_by_name_wherever_they_stand() -> None:
    first, second = environment_secrets(f" the-new-secret , {WHSEC}")
    assert (first.key, second.key) == (b"the-new-secret", WHSEC.encode())
    assert environment_secrets(WHSEC) == (second,)
    assert first.name != second.name
    for secret in (first, second):
        assert secret.name.startswith("env-")
        assert len(secret.name) == len("env-") + 6


@pytest.mark.parametrize("setting", ["", ",", "one-secret,", "one-secret, ,two", "whsec_,one-secret"])
def test_an_empty_part_of_the_environment_is_refused(setting: str) -> None:
    with pytest.raises(ValueError):
        environment_secrets(setting)
