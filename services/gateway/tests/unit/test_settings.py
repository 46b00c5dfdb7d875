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
    monkeypatch.setenv("PUBLIC_URL", "https://safevideo.example")
    monkeypatch.delenv("SHAREGRAM_API_URL", raising=False)
    for name in (
        "PORT",
        "SHAREGRAM_WEBHOOK_SECRET",
        "SHAREGRAM_ISSUER",
        "JWT_SECRET",
        "SAFEVIDEO_ENV",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENCRYPTION_KEY", Fernet.generate_key().decode())


def test_settings_have_the_port_of_the_contract_and_no_sharegram() -> None:
    settings = load_settings(GatewaySettings)
    assert (settings.port, settings.sharegram_api_url) == (3000, "")


def test_settings_read_optional_secrets_and_key_like_ingest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEVIDEO_ENV", "development")
    monkeypatch.delenv("ENCRYPTION_KEY")
    without = load_settings(GatewaySettings)
    assert (without.webhook_secrets(), without.encryption_keys()) == ((), None)
    monkeypatch.setenv("SHAREGRAM_WEBHOOK_SECRET", "kR9-fQ2-vB7m-new-1, xT4-mW8-cN3p-old-2")
    monkeypatch.setenv("ENCRYPTION_KEY", Fernet.generate_key().decode())
    settings = load_settings(GatewaySettings)
    assert [secret.key for secret in settings.webhook_secrets()] == [b"kR9-fQ2-vB7m-new-1", b"xT4-mW8-cN3p-old-2"]
    assert settings.encryption_keys() is not None


@pytest.mark.parametrize("secret", ["whsec_not-base-64-at-all", "kR9-fQ2-vB7m-new-1,,"])
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSO_PROVIDERS", "{"),
        ("SSO_PROVIDERS", '{"a b": {"issuer": "https://x.example", "audience": "y"}}'),
        ("SSO_PROVIDERS", '{"x": {"audience": "y", "client_secret": "quite-a-secret"}}'),
        ("SSO_PROVIDERS", '{"x": {"issuer": "https://x.example", "audience": "y", "algorithms": ["HS256"]}}'),
        ("SHAREGRAM_ROLES_BY_CLAIM", '{"mods": "king"}'),
        ("SHAREGRAM_ROLES_BY_CLAIM", '["moderator"]'),
        ("SHAREGRAM_ALGORITHMS", "RS256,none"),
        ("SHAREGRAM_ALGORITHMS", ""),
        ("SHAREGRAM_ISSUER", "sharegram.example"),
        ("SHAREGRAM_JWKS_URI", "file:///etc/passwd"),
        ("SHAREGRAM_AUTH_URL", "javascript:alert(1)"),
        ("PUBLIC_URL", "https://safevideo.example/"),
        ("PUBLIC_URL", "safevideo.example"),
    ],
)
def test_wrong_setting_of_sign_in_raises_startup_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=name) as refusal:
        load_settings(GatewaySettings)
    assert "quite-a-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SHAREGRAM_ISSUER": "https://sharegram.example"}, "JWT_SECRET is missing"),
        ({"SHAREGRAM_ISSUER": "http://sharegram.example", "JWT_SECRET": "kR9-fQ2-vB7m-xT4"}, "issuer of sharegram"),
    ],
)
def test_production_does_not_start_with_a_sign_in_that_is_not_safe(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        load_settings(GatewaySettings)
    monkeypatch.setenv("SAFEVIDEO_ENV", "development")
    assert list(load_settings(GatewaySettings).providers()) == ["sharegram"]


def test_settings_know_several_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGRAM_ISSUER", "https://sharegram.example")
    monkeypatch.setenv("SHAREGRAM_ALGORITHMS", "RS256, ES256")
    monkeypatch.setenv("JWT_SECRET", "kR9-fQ2-vB7m-xT4")
    monkeypatch.setenv("SSO_PROVIDERS", '{"firebase": {"issuer": "https://x.example", "audience": "y"}}')
    providers = load_settings(GatewaySettings).providers()
    assert {name: sorted(each.algorithms) for name, each in providers.items()} == {
        "firebase": ["RS256"],
        "sharegram": ["ES256", "RS256"],
    }
    assert (providers["firebase"].links_by_email, providers["sharegram"].links_by_email) == (False, True)


@pytest.fixture
def signing_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A production with a provider."""
    monkeypatch.delenv("PUBLIC_URL", raising=False)
    monkeypatch.setenv("SHAREGRAM_ISSUER", "https://sharegram.example")
    monkeypatch.setenv("JWT_SECRET", "kR9fQ2vB7mXT4mW8cN3pLz6hYd5sGq1u")
    return monkeypatch


def test_production_with_a_provider_needs_the_address_that_browsers_come_back_to(
    signing_in: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StartupError, match="PUBLIC_URL"):
        load_settings(GatewaySettings)
    signing_in.setenv("PUBLIC_URL", "http://safevideo.example")
    with pytest.raises(StartupError, match="PUBLIC_URL"):
        load_settings(GatewaySettings)
    for address in ("https://safevideo.example", "http://127.0.0.1:3000"):
        signing_in.setenv("PUBLIC_URL", address)
        assert load_settings(GatewaySettings).public_url == address


def test_without_a_provider_or_a_production_the_address_of_browsers_has_a_default(
    signing_in: pytest.MonkeyPatch,
) -> None:
    signing_in.setenv("SAFEVIDEO_ENV", "development")
    assert load_settings(GatewaySettings).public_url == "http://127.0.0.1:3000"
    signing_in.delenv("SAFEVIDEO_ENV")
    signing_in.delenv("SHAREGRAM_ISSUER")
    assert load_settings(GatewaySettings).public_url == "http://127.0.0.1:3000"
