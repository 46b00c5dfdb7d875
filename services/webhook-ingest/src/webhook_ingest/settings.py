"""The settings of webhook-ingest."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS
from safevideo_common.encryption import Cipher
from safevideo_common.quarantine.limits import RetentionLimits
from safevideo_common.settings import CommonSettings
from safevideo_common.webhooks.signatures import SchemeName, WebhookSecret, environment_secrets


class IngestSettings(CommonSettings):
    """Settings of `webhook-ingest`."""

    port: int = Field(3001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    sharegram_webhook_secret: SecretStr = Field(
        description="Signs Sharegram's webhooks. Several, comma-separated, while one is being rotated out."
    )
    webhook_scheme: SchemeName = Field(
        "any", description="How webhooks must be signed: sharegram, standard (Standard Webhooks), or any of them."
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="Opens what is kept encrypted in the database: 32 random bytes in URL-safe base64; several "
        "comma-separated, the newest first. Without it only the webhook secrets given here count.",
    )
    secrets_refresh_seconds: float = Field(
        30.0, ge=5, le=3600, description="Seconds between two looks for new webhook secrets in the database."
    )
    max_webhook_bytes: int = Field(1 << 20, gt=0, description="Bytes of a webhook's body at most; more is 413.")
    body_timeout_seconds: float = Field(10.0, gt=0, description="Seconds in all that a sender may take over its body.")
    header_timeout_seconds: float = Field(10.0, gt=0, description="Seconds in all that a sender may take over a head.")
    reuse_port: bool = Field(
        False, description="Share the port with other instances on this machine, where no balancer stands before them."
    )
    max_connections: int = Field(
        2048, gt=0, description="Open connections of a process; beyond, those that wait longest for a request go."
    )
    max_webhooks_in_flight: int = Field(
        1000, gt=0, description="Webhooks that a process has in hand at once; beyond, 503 before the body is read."
    )
    slow_body_buffer_bytes: int = Field(
        64 << 20, gt=0, description="Bytes of bodies on their way at once; beyond, the one waited for longest goes."
    )
    trusted_proxies: str = Field(
        "", description="Comma-separated addresses or networks of proxies whose X-Forwarded-For is believed."
    )
    failed_signatures_burst: int = Field(
        20, gt=0, description="Failed signatures of an address before it is a suspect."
    )
    failed_signatures_per_minute: int = Field(
        60, gt=0, description="Failed signatures a minute that an address may go on sending without being a suspect."
    )
    throttled_client_bytes_per_second: int = Field(
        8 << 20, gt=0, description="Bytes a second of suspects' bodies over 8 KiB that are still verified."
    )
    throttled_client_connections_per_second: int = Field(
        200, gt=0, description="New connections a second of suspects that are taken; beyond, they are closed unread."
    )
    throttled_client_delay_seconds: float = Field(
        1.0, ge=0, description="Seconds that a refusal is held back from a suspect."
    )

    quarantine_rows: int = Field(10_000, ge=1, description="Refused webhooks kept at most.")
    quarantine_mebibytes: int = Field(256, ge=1, description="MiB of their bodies at most, before encryption.")
    quarantine_days: int = Field(7, ge=1, description="Days that a refused webhook is kept.")
    quarantine_per_minute: int = Field(
        1000, ge=1, description="Refused webhooks of one address that are kept in a minute."
    )
    produce_timeout_seconds: float = Field(
        ACKNOWLEDGED_WITHIN_SECONDS,
        ge=0.5,
        le=30,
        description="Seconds that Kafka gets to acknowledge a webhook; 0.1 s before, it goes to the spool.",
    )
    spool_dir: Path = Field(
        Path("/var/lib/safevideo/spool"),
        description="Folder on a disk that outlives the process: where webhooks are safe while Kafka is away.",
    )
    spool_max_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Bytes that the spool of one process may have; beyond that webhooks get 503."
    )
    spool_drain_seconds: float = Field(
        3.0, ge=0, le=300, description="Seconds that a process that is told to end spends on emptying its spool."
    )

    @field_validator("sharegram_webhook_secret")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        environment_secrets(value.get_secret_value())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        _networks(value)
        return value

    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks of trusted proxies."""
        return _networks(self.trusted_proxies)

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """Return the secrets of the environment in their order; usually the newest is first."""
        return environment_secrets(self.sharegram_webhook_secret.get_secret_value())

    def quarantine_limits(self) -> RetentionLimits:
        """Return the limits of the quarantine table."""
        return RetentionLimits(
            self.quarantine_rows, self.quarantine_mebibytes << 20, timedelta(days=self.quarantine_days)
        )

    def cipher(self) -> Cipher | None:
        """Return the cipher for the database, if there is a key. Raises `StartupError` for an invalid key."""
        return Cipher.from_key(self.encryption_key.get_secret_value()) if self.encryption_key else None


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
