"""The settings of webhook-ingest."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.encryption import EncryptionKeys
from safevideo_common.quarantine.limits import RetentionLimits
from safevideo_common.settings import CommonSettings, ProxySettings
from safevideo_common.webhooks.signatures import SchemeName, WebhookSecret, environment_secrets


class IngestSettings(CommonSettings, ProxySettings):
    """Settings of `webhook-ingest`."""

    required_in_production: ClassVar[tuple[str, ...]] = ("encryption_key",)

    port: int = Field(3001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    sharegram_webhook_secret: SecretStr = Field(
        description="Secret that signs Sharegram's webhooks. During a rotation several, comma-separated."
    )
    webhook_scheme: SchemeName = Field(
        "any", description="Accepted signature scheme: sharegram, standard (Standard Webhooks), or any."
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="Key for encrypted data in the database: 32 random bytes in URL-safe base64; several "
        "comma-separated, the newest first. Required in production.",
    )
    secrets_refresh_seconds: float = Field(
        5.0, ge=1, le=3600, description="Seconds between two reads of the webhook secrets in the database."
    )
    max_webhook_bytes: int = Field(
        1 << 20, gt=0, le=MAX_VALUE_BYTES, description="Maximum bytes of a webhook's body; more is answered 413."
    )
    body_timeout_seconds: float = Field(
        10.0, gt=0, le=3600, description="Seconds that a sender has for the whole body."
    )
    header_timeout_seconds: float = Field(
        10.0, gt=0, le=3600, description="Seconds that a sender has for the whole request head."
    )
    reuse_port: bool = Field(
        False, description="Share the port with other instances on this machine, without a load balancer."
    )
    max_connections: int = Field(
        2048,
        gt=0,
        le=1_000_000,
        description="Maximum open connections of a process. Beyond, the longest idle ones are closed.",
    )
    max_webhooks_in_flight: int = Field(
        1000,
        gt=0,
        le=1_000_000,
        description="Maximum webhooks in flight in a process. Beyond, 503 before the body is read.",
    )
    slow_body_buffer_bytes: int = Field(
        64 << 20,
        gt=0,
        le=1 << 40,
        description="Maximum bytes of incomplete bodies. Beyond, the oldest body is rejected.",
    )
    failed_signatures_burst: int = Field(
        20, gt=0, le=1_000_000, description="Invalid signatures of an address before it is throttled."
    )
    failed_signatures_per_minute: int = Field(
        60,
        gt=0,
        le=1_000_000,
        description="Invalid signatures per minute that an address may send without being throttled.",
    )
    throttled_client_bytes_per_second: int = Field(
        8 << 20,
        gt=0,
        le=1 << 40,
        description="Bytes per second, in bodies over 8 KiB, that are accepted from all throttled clients.",
    )
    throttled_client_connections_per_second: int = Field(
        200,
        gt=0,
        le=1_000_000,
        description="New connections per second from all throttled clients. Beyond, they are closed unread.",
    )
    throttled_client_delay_seconds: float = Field(
        1.0, ge=0, le=60, description="Seconds before a throttled client gets its 429."
    )

    quarantine_rows: int = Field(10_000, ge=1, le=100_000_000, description="Maximum number of webhooks in quarantine.")
    quarantine_mebibytes: int = Field(
        256, ge=1, le=1 << 20, description="Maximum MiB of bodies in quarantine, before encryption."
    )
    quarantine_days: int = Field(7, ge=1, le=3650, description="Days that a rejected webhook stays in quarantine.")
    quarantine_per_minute: int = Field(
        1000, ge=1, le=1_000_000, description="Rejected webhooks per minute that are stored for one address."
    )
    produce_timeout_seconds: float = Field(
        ACKNOWLEDGED_WITHIN_SECONDS,
        ge=0.5,
        le=30,
        description="Seconds that Kafka has to acknowledge a webhook. The webhook is spooled 0.1 s earlier.",
    )
    spool_dir: Path = Field(
        Path("/var/lib/safevideo/spool"),
        description="Folder of the spool for webhooks while Kafka is unavailable. It must outlive the process.",
    )
    spool_max_bytes: int = Field(
        1 << 30,
        ge=1 << 20,
        le=1 << 40,
        description="Maximum bytes of the spool of one process. Beyond, webhooks are answered 503.",
    )
    spool_drain_seconds: float = Field(
        3.0, ge=0, le=300, description="Seconds that a stopping process tries to empty its spool."
    )

    @field_validator("sharegram_webhook_secret")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        environment_secrets(value.get_secret_value())
        return value

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """Return the secrets of the environment in their order; usually the newest is first."""
        return environment_secrets(self.sharegram_webhook_secret.get_secret_value())

    def quarantine_limits(self) -> RetentionLimits:
        """Return the limits of the quarantine table."""
        return RetentionLimits(
            self.quarantine_rows, self.quarantine_mebibytes << 20, timedelta(days=self.quarantine_days)
        )

    def encryption_keys(self) -> EncryptionKeys | None:
        """Return the keys for the database, if there are any. Raises `StartupError` for an invalid key."""
        return EncryptionKeys.parse(self.encryption_key.get_secret_value()) if self.encryption_key else None
