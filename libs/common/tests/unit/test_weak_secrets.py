"""Secrets that nobody made at random are refused, and random ones never."""

import secrets
from base64 import b64encode, urlsafe_b64encode

import pytest

from safevideo_common.weak_secrets import MIN_SECRET_LENGTH, explain_weak_secret, is_default_looking

WEAK = [
    "zX7-brief",
    "changeme-changeme-1",
    "change_me_change_me",
    "aaaaaaaaaaaaaaaaaa",
    "your-secret-goes-here",
    "your_webhook_secret_here",
    "yourwebhooksecrethere",
    "replace_me_replace_me",
    "insert_secret_here!!",
    "TODO-set-this-later",
    "password12345678",
    "Password-Password",
    "1234567890123456",
    "0123456789abcdef",
    "0123456789abcdef0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz",
    "zyxwvutsrqponmlkjihg",
    "example-secret-value",
    "sharegram-webhook-secret",
    "safevideo_secret_key",
    "my-super-secret-token",
    "supersecretsupersecret",
    "test-secret-test-secret",
    "default_default_default",
    "placeholder-placeholder",
    "xxxxxxxxxxxxxxxxxxxxxxxx",
    "kR9kR9kR9kR9kR9kR9kR9",
    "deadbeefdeadbeefdeadbeef",
    "whsec_" + b64encode(bytes(24)).decode(),
    "whsec_" + b64encode(bytes(range(24))).decode(),
    "whsec_" + b64encode(b"your-secret-goes-here-xx").decode(),
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    urlsafe_b64encode(bytes(32)).decode(),
    urlsafe_b64encode(bytes(range(32))).decode(),
    urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode(),
    urlsafe_b64encode(b"01234567890123456789012345678901").decode(),
    bytes(range(16)).hex(),
]


@pytest.mark.parametrize("secret", WEAK)
def test_weak_secret_is_explained_without_quoting_it(secret: str) -> None:
    reason = explain_weak_secret(secret)
    assert reason
    assert secret not in reason


def test_random_secrets_are_not_weak() -> None:
    for _ in range(300):
        for secret in (
            secrets.token_hex(16),
            secrets.token_urlsafe(24),
            urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "whsec_" + b64encode(secrets.token_bytes(24)).decode(),
        ):
            assert explain_weak_secret(secret) is None, secret
    assert explain_weak_secret("correct-horse-battery-staple") is None


@pytest.mark.parametrize("password", ["root", "changeme", "password", "123456", "secret", "admin123"])
def test_common_passwords_look_like_defaults(password: str) -> None:
    assert len(password) < MIN_SECRET_LENGTH
    assert is_default_looking(password)
