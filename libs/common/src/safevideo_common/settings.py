"""Settings that services share, read from the environment once, at the start (contract, §12).

The settings of a service extend `CommonSettings`. `.env.example` is generated from these classes and checked for drift.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from safevideo_common.errors import StartupError
from safevideo_common.weak_secrets import explain_weak_secret, is_default_looking

SECRETS_FOLDER: Final = Path("/run/secrets")
"""A file `database_url` in it sets `DATABASE_URL`, unless the environment does. Containers mount secrets there."""
MIN_PROXY_PREFIX: Final = 8


class ProcessSettings(BaseSettings):
    """Settings of every process. The variable of a field is its name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)
    required_in_production: ClassVar[tuple[str, ...]] = ()
    """Names of optional secrets without which a production would not do all that it must."""

    safevideo_env: Literal["production", "development"] = Field(
        "production", description="In production the process does not start with a weak or default secret."
    )
    allow_plaintext: str = Field(
        "",
        description="Comma-separated: database, redis, kafka, s3. A production reaches these elsewhere without TLS.",
    )

    @field_validator("allow_plaintext")
    @classmethod
    def _are_servers(cls, value: str) -> str:
        if unknown := _names(value) - _SERVERS.keys():
            raise ValueError(f"must be some of {', '.join(_SERVERS)}, not {len(unknown)} other words")
        return value


class DatabaseSettings(ProcessSettings):
    """Settings of a command that needs only the database."""

    database_url: SecretStr = Field(
        description="mysql+aiomysql://user:password@host/safevideo, or sqlite+aiosqlite:///path for the embedded stack."
        " With TLS: ?ssl_ca=ca.pem, and &ssl_cert= and &ssl_key= for a certificate of our own; "
        "?ssl_mode=VERIFY_IDENTITY for the system's roots."
    )


class KafkaSettings(ProcessSettings):
    """Settings of a command that needs only the broker."""

    kafka_bootstrap_servers: str = Field(description="Comma-separated host:port of the brokers.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka's word for encryption (SSL) and for a user and a password (SASL)."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is proved; PLAIN sends it."
    )
    kafka_username: str = Field("", description="User at Kafka, with SASL.")
    kafka_password: SecretStr | None = Field(None, description="Password at Kafka, with SASL.")
    kafka_ca_file: Path | None = Field(
        None, description="PEM file of the CA that signed the brokers' certificates; empty for the system's roots."
    )
    kafka_cert_file: Path | None = Field(None, description="PEM file of our certificate, if the brokers ask for one.")
    kafka_key_file: Path | None = Field(
        None, description="PEM file of its key, unless the file of the certificate has it."
    )


class CommonSettings(KafkaSettings, DatabaseSettings):
    """Settings of every service."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a container's port is its own
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379"),
        description="Redis or Valkey, without a database number; rediss:// with TLS, and then ?ssl_ca_certs=ca.pem, "
        "&ssl_certfile= and &ssl_keyfile=.",
    )
    log_dir: Path | None = Field(
        None, description="Folder of the log files. Default: /var/log/safevideo if it exists, otherwise no log files."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    otel_exporter_otlp_endpoint: str = Field(
        "", description="Address of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318."
    )
    otel_traces_sampler_arg: float = Field(
        0.01, ge=0, le=1, description="Share of webhooks and jobs that are traced, if there is a collector."
    )
    shutdown_seconds: float = Field(
        8.0, gt=0, le=300, description="Seconds that open requests and running batches have to finish at a stop."
    )
    memory_limit_mb: int = Field(
        1024,
        ge=1,
        le=1 << 20,
        description="MiB of memory. A process that uses more stops cleanly; its supervisor restarts it.",
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
        _reject_unsafe(settings)
    return settings


def _reject_unsafe(settings: ProcessSettings) -> None:
    """Raise `StartupError` for the first setting that a production lacks or must not have. It never shows a value."""
    for name in settings.required_in_production:
        if getattr(settings, name) is None:
            raise StartupError(f"{name.upper()} is missing. Set it, or SAFEVIDEO_ENV=development.")
    for name, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and (reason := _explain_unsafe(name, text, is_secret=isinstance(value, SecretStr))):
            raise StartupError(f"{name.upper()} {reason}. Set another value, or SAFEVIDEO_ENV=development.")
    for server, name in _SERVERS.items():
        if server not in _names(settings.allow_plaintext) and _is_plaintext(settings, name):
            raise StartupError(
                f"{name.upper()} is on another host and not encrypted. Use TLS (docs/security.md has the settings), "
                f"or set ALLOW_PLAINTEXT={server} if the network between is yours alone."
            )


_SERVERS: Final = {
    "database": "database_url",
    "redis": "redis_url",
    "kafka": "kafka_bootstrap_servers",
    "s3": "s3_endpoint",
}
"""The servers that a production may reach in plain text if it says so, and the setting that has the address."""


def _names(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


def _is_plaintext(settings: ProcessSettings, name: str) -> bool:
    """Return whether passwords, events or documents would cross a network unencrypted."""
    value = getattr(settings, name, None)
    if isinstance(settings, KafkaSettings) and name == "kafka_bootstrap_servers":
        hosts = (server.rpartition(":")[0].strip("[] ") for server in _names(settings.kafka_bootstrap_servers))
        return not settings.kafka_security_protocol.endswith("SSL") and not all(map(_is_local, hosts))
    if name == "s3_endpoint" and isinstance(value, str):
        return value.startswith("http:") and not _is_local(urlsplit(value).hostname)
    if not isinstance(value, SecretStr):
        return False
    parts = urlsplit(value.get_secret_value())
    is_encrypted = parts.scheme == "rediss" or any(key.startswith("ssl_") for key, _ in parse_qsl(parts.query))
    return parts.scheme.startswith(("mysql", "redis")) and not is_encrypted and not _is_local(parts.hostname)


def _is_local(host: str | None) -> bool:
    return host is None or host == "localhost" or host.startswith(("127.", "::1"))


def _explain_unsafe(name: str, text: str, *, is_secret: bool) -> str | None:
    if name.endswith(("_url", "_uri")):
        return explain_unsafe_url(text)
    if name == "trusted_proxies":
        return _explain_wide_network(text)
    if is_secret:
        return next((reason for part in text.split(",") if (reason := explain_weak_secret(part.strip()))), None)
    return None


def explain_unsafe_url(url: str) -> str | None:
    """Return why a production must not use the service at `url`, or None. This machine needs no password."""
    parts = urlsplit(url)
    is_local = _is_local(parts.hostname)
    if parts.scheme == "http" and not is_local:
        return "is not encrypted: use https"
    if not parts.scheme.startswith(("mysql", "redis", "valkey")):
        return None
    if not parts.password:
        return None if is_local else "has no password"
    if parts.password == parts.username or is_default_looking(unquote(parts.password)):
        return "has a password that looks like a default"
    return None


def _explain_wide_network(networks: str) -> str | None:
    if any(ip_network(part.strip()).prefixlen < MIN_PROXY_PREFIX for part in networks.split(",") if part.strip()):
        return f"has a network wider than /{MIN_PROXY_PREFIX}, so that anyone could name any client address"
    return None
