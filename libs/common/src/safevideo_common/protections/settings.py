"""Settings of every process that calls Sharegram or shows the state of that."""

from pydantic import Field, SecretStr

from safevideo_common.encryption import EncryptionKeys
from safevideo_common.settings import CommonSettings
from safevideo_common.sharegram.settings import SharegramSettings


class ProtectionSettings(SharegramSettings, CommonSettings):
    """Sharegram's address and keys, the database of the breaker, and the rate of calls."""

    encryption_key: SecretStr | None = Field(
        None,
        description="Key of what is stored encrypted: KYC data, rejected webhooks, webhook secrets, Sharegram's keys. "
        "32 random bytes in URL-safe base64; during a rotation several, comma-separated, the newest first. Required in "
        "production.",
    )

    redis_recovery_db: int = Field(3, ge=0, le=15, description="Database of Redis with the circuit breakers.")
    sharegram_calls_per_second: float = Field(
        50.0, gt=0, le=10_000, description="Calls to Sharegram a second, of all processes together."
    )
    sharegram_calls_burst: int = Field(
        100, ge=1, le=100_000, description="Calls to Sharegram that may go out at once before that rate limits them."
    )

    def encryption_keys(self) -> EncryptionKeys | None:
        """Return the keys that encrypt, or None without. Raises `StartupError` for a malformed key."""
        return EncryptionKeys.parse(self.encryption_key.get_secret_value()) if self.encryption_key else None
