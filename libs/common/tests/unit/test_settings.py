"""A start with wrong settings ends with a list of names, and never shows a value."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr

from safevideo_common.errors import StartupError
from safevideo_common.settings import CommonSettings, load_settings


class ServiceSettings(CommonSettings):
    required_in_production: ClassVar[tuple[str, ...]] = ("a_key",)

    a_secret: SecretStr = Field(description="guards something")
    a_key: SecretStr | None = Field(None, description="opens something")
    sharegram_api_url: str = Field("", description="an address")
    trusted_proxies: str = Field("", description="networks")


GOOD = {
    "DATABASE_URL": "sqlite+aiosqlite://",
    "KAFKA_BOOTSTRAP_SERVERS": "",
    "A_SECRET": "kR9-something-random-71",
    "A_KEY": "pT4-something-random-38",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SAFEVIDEO_ENV", raising=False)
    return monkeypatch


def refusal() -> str:
    with pytest.raises(StartupError) as refused:
        load_settings(ServiceSettings)
    return str(refused.value)


def test_settings_are_read_from_variables_in_capitals(environment: pytest.MonkeyPatch) -> None:
    assert load_settings(ServiceSettings).a_secret.get_secret_value() == GOOD["A_SECRET"]


def test_secrets_are_also_read_from_files_and_the_environment_wins(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a_secret").write_text("from-a-file-81-kx")
    (tmp_path / "kafka_bootstrap_servers").write_text("from-a-file:9092")
    environment.delenv("A_SECRET")
    settings = load_settings(ServiceSettings, tmp_path)
    assert settings.a_secret.get_secret_value() == "from-a-file-81-kx"
    assert settings.kafka_bootstrap_servers == GOOD["KAFKA_BOOTSTRAP_SERVERS"]


def test_settings_error_names_each_wrong_variable_without_its_value(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("DATABASE_URL")
    environment.setenv("PORT", "a-secret-in-the-wrong-place")
    said = refusal()
    assert "DATABASE_URL" in said
    assert "PORT" in said
    assert "wrong-place" not in said


def test_missing_secret_raises_startup_error_in_production(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("A_KEY")
    assert refusal() == "A_KEY is missing. Set it, or SAFEVIDEO_ENV=development."
    environment.setenv("SAFEVIDEO_ENV", "development")
    load_settings(ServiceSettings)


@pytest.mark.parametrize("secret", ["zX7-brief", "changeme-changeme-1", "aaaaaaaaaaaaaaaaaa", "your-secret-goes-here"])
def test_weak_secret_raises_startup_error_in_production(environment: pytest.MonkeyPatch, secret: str) -> None:
    environment.setenv("A_SECRET", f"{GOOD['A_SECRET']},{secret}")
    said = refusal()
    assert said.startswith("A_SECRET ")
    assert secret not in said


def test_weak_secret_is_accepted_in_development(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("A_SECRET", "short")
    environment.setenv("SAFEVIDEO_ENV", "development")
    load_settings(ServiceSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql+aiomysql://root:root@db/safevideo"),
        ("DATABASE_URL", "mysql+aiomysql://root:root@127.0.0.1/safevideo"),
        ("DATABASE_URL", "mysql+aiomysql://safevideo@db.example.net/safevideo"),
        ("DATABASE_URL", "mysql+aiomysql://safevideo:changeme@db/safevideo"),
        ("DATABASE_URL", "mysql+aiomysql://safevideo:pass%77ord@db/safevideo"),
        ("REDIS_URL", "redis://redis:6379"),
        ("REDIS_URL", "rediss://:changeme@redis.example.net:6379"),
        ("SHAREGRAM_API_URL", "http://api.sharegram.com/v1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
    ],
)
def test_unsafe_service_raises_startup_error_in_production(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    said = refusal()
    assert said.startswith(f"{name} has" if name != "SHAREGRAM_API_URL" else f"{name} is not encrypted")
    assert value not in said
    environment.setenv("SAFEVIDEO_ENV", "development")
    load_settings(ServiceSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql+aiomysql://root@127.0.0.1:3306/safevideo"),
        ("DATABASE_URL", "mysql+aiomysql://safevideo:kR9-fQ2-vB7m@db/safevideo?ssl_ca=/ca.pem"),
        ("REDIS_URL", "redis://localhost:6379"),
        ("REDIS_URL", "rediss://:kR9-fQ2-vB7m@redis.example.net:6379"),
        ("SHAREGRAM_API_URL", "http://127.0.0.1:3900/v1"),
        ("SHAREGRAM_API_URL", "https://api.sharegram.com/v1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.7"),
    ],
)
def test_safe_service_is_accepted_in_production(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    load_settings(ServiceSettings)


@pytest.mark.parametrize(
    ("server", "name", "value"),
    [
        ("database", "DATABASE_URL", "mysql+aiomysql://safevideo:kR9-fQ2-vB7m@db/safevideo?charset=utf8mb4"),
        ("redis", "REDIS_URL", "redis://:kR9-fQ2-vB7m@redis:6379"),
        ("kafka", "KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092, kafka-2:9092"),
    ],
)
def test_plaintext_to_another_host_raises_startup_error_in_production_unless_allowed(
    environment: pytest.MonkeyPatch, server: str, name: str, value: str
) -> None:
    environment.setenv(name, value)
    said = refusal()
    assert said.startswith(f"{name} is on another host and not encrypted")
    assert value not in said
    environment.setenv("ALLOW_PLAINTEXT", f"somebody, {server}")
    assert "ALLOW_PLAINTEXT" in refusal()
    environment.setenv("ALLOW_PLAINTEXT", f" {server} ")
    load_settings(ServiceSettings)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_encrypted_kafka_on_another_host_is_accepted(environment: pytest.MonkeyPatch, protocol: str) -> None:
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9093,kafka-2:9093")
    environment.setenv("KAFKA_SECURITY_PROTOCOL", protocol)
    load_settings(ServiceSettings)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_number_without_end_raises_startup_error(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("SHUTDOWN_SECONDS", value)
    assert "SHUTDOWN_SECONDS" in refusal()
