"""Settings of the gateway, in addition to the common ones."""

from pydantic import Field, SecretStr, field_validator

from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.encryption import Cipher
from safevideo_common.settings import CommonSettings
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_common.webhooks.signatures import WebhookSecret, environment_secrets


class GatewaySettings(SharegramSettings, CommonSettings):
    """Settings of `gateway`."""

    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    redis_timeout_seconds: float = Field(
        ANSWER_SECONDS, gt=0, le=2, description="Seconds to wait for Redis before the database is used instead."
    )

    sharegram_webhook_secret: SecretStr | None = Field(
        None, description="The same as for webhook-ingest: the gateway reverifies rejected webhooks with it."
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="Key of the stored rejected webhooks: 32 random bytes in URL-safe base64; during a rotation "
        "several, comma-separated, the newest first.",
    )

    @field_validator("sharegram_webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            environment_secrets(value.get_secret_value())
        return value

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """Return the webhook secrets of the environment."""
        secret = self.sharegram_webhook_secret
        return environment_secrets(secret.get_secret_value()) if secret else ()

    def cipher(self) -> Cipher | None:
        """Return the cipher of the quarantine, or None without a key. Raises `StartupError` for a malformed key."""
        return Cipher.from_key(self.encryption_key.get_secret_value()) if self.encryption_key else None
