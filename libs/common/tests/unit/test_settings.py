"""A start with wrong settings ends with a list of names, and never shows a value."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from safevideo_common.errors import StartupError
from safevideo_common.settings import CommonSettings, explain_weak_secret, load_settings


class ServiceSettings(CommonSettings):
    a_secret: SecretStr = Field(description="guards something")


GOOD = {"DATABASE_URL": "sqlite+aiosqlite://", "KAFKA_BOOTSTRAP_SERVERS": "", "A_SECRET": "kR9-something-random-71"}


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


def test_random_secret_is_not_weak() -> None:
    assert explain_weak_secret("f3c1b2a49d8e7f60") is None
