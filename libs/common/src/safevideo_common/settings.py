"""Settings that services share, read from the environment once, at the start (contract, §12).

The settings of a service extend `CommonSettings`. `.env.example` is generated from these classes and checked for drift.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from safevideo_common.errors import StartupError

MIN_SECRET_LENGTH: Final = 16
SECRETS_FOLDER: Final = Path("/run/secrets")
"""A file `database_url` in it sets `DATABASE_URL`, unless the environment does. Containers mount secrets there."""
_DEFAULT_LOOKING: Final = ("changeme", "change-me", "change_me", "default", "example", "placeholder", "your-", "xxxx")


class ProcessSettings(BaseSettings):
    """Settings of every process. The variable of a field is its name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    safevideo_env: Literal["production", "development"] = Field(
        "production", description="In production the process does not start with a weak or default secret."
    )


class DatabaseSettings(ProcessSettings):
    """Settings of a command that needs only the database."""

    database_url: SecretStr = Field(
        description="mysql+aiomysql://user:password@host/safevideo, or sqlite+aiosqlite:///path for the embedded stack."
    )


class KafkaSettings(ProcessSettings):
    """Settings of a command that needs only the broker."""

    kafka_bootstrap_servers: str = Field(description="Comma-separated host:port of the brokers.")


class CommonSettings(KafkaSettings, DatabaseSettings):
    """Settings of every service."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a container's port is its own
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379"), description="Redis or Valkey, without a database number."
    )
    log_dir: Path | None = Field(
        None, description="Folder of the log files. Default: /var/log/safevideo if it exists, otherwise no log files."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    shutdown_seconds: float = Field(
        8.0, gt=0, le=300, description="Seconds that open requests and running batches have to finish at a stop."
    )
    memory_limit_mb: int = Field(
        1024, ge=1, description="MiB of memory. A process that uses more stops cleanly; its supervisor restarts it."
    )
    readiness_drain_seconds: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Seconds before a stop in which /readyz is 503 but requests are answered, for load balancers.",
    )


class ProxySettings(ProcessSettings):
    """Settings of a service that stands behind proxies and counts its clients by address."""

    trusted_proxies: str = Field(
        "", description="Comma-separated addresses or networks of proxies whose X-Forwarded-For is trusted."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        _networks(value)
        return value

    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks of trusted proxies."""
        return _networks(self.trusted_proxies)


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


Settings = TypeVar("Settings", bound=CommonSettings)
AnySettings = TypeVar("AnySettings", bound=ProcessSettings)


def load_settings(kind: type[AnySettings], secrets: Path = SECRETS_FOLDER) -> AnySettings:
    """Read `kind` from the environment and from files in `secrets`.

    Raises `StartupError` that names each wrong variable, never its value.
    """
    try:
        settings = kind(_secrets_dir=secrets if secrets.is_dir() else None)
    except ValidationError as error:
        lines = [f"  {str(entry['loc'][0]).upper()}: {entry['msg']}" for entry in error.errors(include_input=False)]
        raise StartupError("\n".join(["These settings are missing or wrong:", *lines])) from None
    if settings.safevideo_env == "production":
        _reject_weak_secrets(settings)
    return settings


def _reject_weak_secrets(settings: ProcessSettings) -> None:
    for name, value in settings:
        if isinstance(value, SecretStr) and not name.endswith("_url"):
            for secret in value.get_secret_value().split(","):
                if reason := explain_weak_secret(secret.strip()):
                    raise StartupError(f"{name.upper()} {reason}. Set a real one, or SAFEVIDEO_ENV=development.")


def explain_weak_secret(secret: str) -> str | None:
    """Return why `secret` is too weak for production, or None."""
    if len(secret) < MIN_SECRET_LENGTH:
        return f"is shorter than {MIN_SECRET_LENGTH} characters"
    if any(part in secret.lower() for part in _DEFAULT_LOOKING) or len(set(secret)) < 4:
        return "looks like a default"
    return None
