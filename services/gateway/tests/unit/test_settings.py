"""The gateway's own settings."""

import pytest

from gateway.settings import GatewaySettings
from safevideo_common.errors import StartupError
from safevideo_common.settings import load_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///x.db")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    monkeypatch.delenv("SHAREGRAM_API_URL", raising=False)
    monkeypatch.delenv("PORT", raising=False)


def test_the_port_is_the_contracts_and_sharegram_not_configured() -> None:
    settings = load_settings(GatewaySettings)
    assert (settings.port, settings.sharegram_api_url) == (3000, "")


@pytest.mark.parametrize("address", ["api.sharegram.com", "ftp://api.sharegram.com", "file:///etc/passwd"])
def test_an_address_that_cannot_be_called_stops_the_start(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SHAREGRAM_API_URL", address)
    with pytest.raises(StartupError, match="SHAREGRAM_API_URL") as refusal:
        load_settings(GatewaySettings)
    assert address not in str(refusal.value)
