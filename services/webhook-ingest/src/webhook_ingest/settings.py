"""What the door needs to know beyond the common settings."""

from pydantic import Field, SecretStr, field_validator

from safevideo_common.settings import CommonSettings
from safevideo_common.sharegram.webhook_signatures import WebhookSecret


class IngestSettings(CommonSettings):
    """Settings of `webhook-ingest`."""

    port: int = Field(3001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    sharegram_webhook_secret: SecretStr = Field(
        description="Signs Sharegram's webhooks. Several, comma-separated, while one is being rotated out."
    )
    max_webhook_bytes: int = Field(1 << 20, gt=0, description="Bytes of a webhook's body at most; more is 413.")
    body_read_seconds: float = Field(10.0, gt=0, description="Seconds that a sender may take over its body.")

    @field_validator("sharegram_webhook_secret")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        if not all(part.strip() for part in value.get_secret_value().split(",")):
            raise ValueError("an empty secret would let anyone in")
        return value

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """The secrets in the order given, named by their place: the newest usually stands first."""
        parts = self.sharegram_webhook_secret.get_secret_value().split(",")
        return tuple(WebhookSecret(f"env-{place}", part.strip().encode()) for place, part in enumerate(parts, 1))
