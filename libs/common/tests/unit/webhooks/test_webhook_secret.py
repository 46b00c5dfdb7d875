"""Valid and invalid forms of secrets."""

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.webhooks.signatures import WebhookSecret, environment_secrets

BYTES = bytes(range(250, 256)) * 4
WHSEC = "whsec_" + b64encode(BYTES).decode()


def test_secret_decodes_whsec_key_for_standard_scheme() -> None:
    secret = WebhookSecret("one", WHSEC.encode())
    assert (secret.key, secret.standard_key) == (WHSEC.encode(), BYTES)


@given(st.binary(min_size=1).filter(lambda key: not key.startswith(b"whsec_")))
def test_secret_uses_other_text_as_key(key: bytes) -> None:
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
def test_secret_rejects_invalid_key_without_quoting_it(secret: str) -> None:
    with pytest.raises(ValueError) as error:
        WebhookSecret("one", secret.encode())
    assert len(secret) < 7 or secret[6:] not in str(error.value)


@given(st.binary(max_size=64))
def test_secret_raises_only_value_error_for_random_whsec_key(rest: bytes) -> None:
    with suppress(ValueError):
        assert len(WebhookSecret("one", b"whsec_" + rest).standard_key) >= 16


def test_secret_repr_shows_no_key() -> None:
    assert repr(WebhookSecret("one", b"the-secret")) == "WebhookSecret(name='one')"


def test_environment_secrets_have_names_independent_of_position() -> None:
    first, second = environment_secrets(f" the-new-secret , {WHSEC}")
    assert (first.key, second.key) == (b"the-new-secret", WHSEC.encode())
    assert environment_secrets(WHSEC) == (second,)
    assert first.name != second.name
    for secret in (first, second):
        assert secret.name.startswith("env-")
        assert len(secret.name) == len("env-") + 6


@pytest.mark.parametrize("setting", ["", ",", "one-secret,", "one-secret, ,two", "whsec_,one-secret"])
def test_environment_secrets_reject_empty_parts(setting: str) -> None:
    with pytest.raises(ValueError):
        environment_secrets(setting)
