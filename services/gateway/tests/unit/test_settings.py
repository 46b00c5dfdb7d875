"""The gateway's own settings."""

import pytest
from cryptography.fernet import Fernet

from gateway.settings import GatewaySettings
from safevideo_common.errors import StartupError
from safevideo_common.settings import load_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///x.db")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    monkeypatch.delenv("SHAREGRAM_API_URL", raising=False)
    for name in ("PORT", "SHAREGRAM_WEBHOOK_SECRET", "ENCRYPTION_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_settings_have_the_port_of_the_contract_and_no_sharegram() -> None:
    settings = load_settings(GatewaySettings)
    assert (settings.port, settings.sharegram_api_url) == (3000, "")


def test_settings_read_optional_secrets_and_key_like_ingest(monkeypatch: pytest.MonkeyPatch) -> None:
    without = load_settings(GatewaySettings)
    assert (without.webhook_secrets(), without.cipher()) == ((), None)
    monkeypatch.setenv("SHAREGRAM_WEBHOOK_SECRET", "a-new-webhook-key-1, an-old-webhook-key-2")
    monkeypatch.setenv("ENCRYPTION_KEY", Fernet.generate_key().decode())
    settings = load_settings(GatewaySettings)
    assert [secret.key for secret in settings.webhook_secrets()] == [b"a-new-webhook-key-1", b"an-old-webhook-key-2"]
    assert settings.cipher() is not None


@pytest.mark.parametrize("secret", ["whsec_not-base-64-at-all", "a-new-webhook-key-1,,"])
def test_malformed_secret_raises_startup_error_without_showing_it(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("SHAREGRAM_WEBHOOK_SECRET", secret)
    with pytest.raises(StartupError, match="SHAREGRAM_WEBHOOK_SECRET") as refusal:
        load_settings(GatewaySettings)
    assert "whsec_not" not in str(refusal.value)
    assert "a-new" not in str(refusal.value)


@pytest.mark.parametrize("address", ["api.sharegram.com", "ftp://api.sharegram.com", "file:///etc/passwd"])
def test_invalid_sharegram_url_raises_startup_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SHAREGRAM_API_URL", address)
    with pytest.raises(StartupError, match="SHAREGRAM_API_URL") as refusal:
        load_settings(GatewaySettings)
    assert address not in str(refusal.value)
