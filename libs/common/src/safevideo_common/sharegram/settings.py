"""Settings of every process that calls Sharegram (contract, §10 to §12)."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from safevideo_common.settings import ProcessSettings
from safevideo_common.sharegram.http import SharegramCredentials
from safevideo_common.sharegram.retry import CallRetryPolicy


class SharegramSettings(ProcessSettings):
    """Address, credentials and retries of calls to Sharegram."""

    sharegram_api_url: str = Field(
        "", description="Base URL of Sharegram's API, such as https://api.sharegram.com/v1; empty if not configured."
    )
    sharegram_api_key: SecretStr | None = Field(None, description="API key of the integration at Sharegram.")
    sharegram_secret_key: SecretStr | None = Field(None, description="Key that signs our calls to Sharegram.")
    sharegram_integration_id: str = Field(
        "safevideo", pattern="^[!-~]{1,128}$", description="Id of this integration, sent with each call."
    )
    sharegram_ca_file: Path | None = Field(
        None, description="PEM file of the CA that signed Sharegram's certificate; empty for the system's roots."
    )
    sharegram_max_retries: int = Field(5, ge=0, le=20, description="Further tries of a call to Sharegram.")
    sharegram_initial_delay: int = Field(
        2000, ge=1, le=3_600_000, description="Longest wait before the first retry, in ms."
    )
    sharegram_max_delay: int = Field(60_000, ge=1, le=3_600_000, description="Longest wait before any retry, in ms.")
    sharegram_backoff_multiplier: float = Field(2.0, ge=1, le=10, description="Growth of the wait from retry to retry.")
    sharegram_max_concurrent_calls: int = Field(
        16, ge=1, le=1000, description="Calls to Sharegram that a process has in flight; a quarter is not for jobs."
    )

    @field_validator("sharegram_api_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    def credentials(self) -> SharegramCredentials | None:
        """Return the keys, or None unless both are configured."""
        if self.sharegram_api_key is None or self.sharegram_secret_key is None:
            return None
        return SharegramCredentials(
            self.sharegram_api_key.get_secret_value(),
            self.sharegram_secret_key.get_secret_value(),
            self.sharegram_integration_id,
        )

    def retry_policy(self) -> CallRetryPolicy:
        """Return the retries in seconds."""
        return CallRetryPolicy(
            self.sharegram_max_retries,
            self.sharegram_initial_delay / 1000,
            self.sharegram_max_delay / 1000,
            self.sharegram_backoff_multiplier,
        )
