"""The settings of the simulator, from its host, or from the environment when it runs alone."""

from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sharegram_simulator.certificates import CertificateKind
from sharegram_simulator.signing import SchemeName, standard_key


def _usable(secret: SecretStr) -> SecretStr:
    for one in secret.get_secret_value().split(","):
        standard_key(one.strip())
    return secret


WebhookSecret = Annotated[SecretStr, Field(min_length=1, max_length=512), AfterValidator(_usable)]
"""Any text; one that begins with `whsec_` goes on in base64."""

Rate = Annotated[float, Field(ge=0, le=1)]


class SimulatorSettings(BaseModel):
    """The settings from a host, by field name. They read no environment, so a test is the same on every machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=3900, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    tls: CertificateKind | None = Field(
        default=None,
        description="Serve HTTPS with a certificate: good, expired, wrong_host, self_signed or unknown_ca.",
    )
    tls_ca_file: Path | None = Field(
        default=None, description="File that gets the CA which a client has to trust, in PEM."
    )

    webhook_url: str = Field(
        default="http://127.0.0.1:3001/webhooks/sharegram",
        validation_alias="SAFEVIDEO_WEBHOOK_URL",
        description="Where webhooks go until the integration registers another address.",
    )
    webhook_secret: WebhookSecret = Field(
        validation_alias="SHAREGRAM_WEBHOOK_SECRET",
        description="Signs webhooks; of several, separated by commas, the first.",
    )
    webhook_scheme: SchemeName = Field(
        default="sharegram", description="How webhooks are signed: sharegram or standard."
    )

    api_key: SecretStr = Field(
        default_factory=lambda: SecretStr(token_urlsafe()),
        validation_alias="SHAREGRAM_API_KEY",
        description="Names the integration in calls to /v1. Unset, every call that must be signed is refused.",
    )
    secret_key: SecretStr = Field(
        default_factory=lambda: SecretStr(token_urlsafe()),
        validation_alias="SHAREGRAM_SECRET_KEY",
        description="Signs calls to /v1.",
    )

    issuer: str = Field(
        default="",
        validation_alias="SHAREGRAM_ISSUER",
        description="Issuer of the tokens and base of the sign-in addresses; http://127.0.0.1:<port> when empty.",
    )
    audience: str = Field(
        default="safevideo",
        validation_alias="SHAREGRAM_AUDIENCE",
        description="Audience of the tokens and id of the client.",
    )

    backchannel_logout_url: str = Field(
        default="http://127.0.0.1:3000/auth/sso/backchannel-logout",
        description="Where logout tokens go unless the order names another address.",
    )

    retry_factor: float = Field(
        default=1.0, ge=0, le=1, description="Shortens the retry delays: 0.001 makes 5 s into 5 ms."
    )
    try_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="Time that the receiver of a webhook has to answer."
    )
    concurrency: int = Field(default=16, ge=1, le=1000, description="Webhooks under way at once.")
    queue_limit: int = Field(default=10_000, ge=1, description="Webhooks that are waiting or being retried.")
    history_limit: int = Field(
        default=10_000, ge=1, description="Finished webhooks, and calls received, kept for /_sim/state."
    )
    master_limit: int = Field(default=100_000, ge=1, description="Performers, and verifications, kept.")
    duplicate_rate: Rate = Field(
        default=0.0, description="Share of webhooks that are sent again though they were accepted."
    )
    reorder_rate: Rate = Field(
        default=0.0, description="Share of webhooks that let later ones of their performer pass."
    )
    seed: int | None = Field(default=None, description="Makes generated performers and the dice of faults repeatable.")

    @property
    def first_webhook_secret(self) -> str:
        """The secret that signs: while it is rotated, the variable names both, the signing one first."""
        return self.webhook_secret.get_secret_value().split(",")[0].strip()

    @property
    def issuer_url(self) -> str:
        """The issuer, to the letter: a receiver compares it."""
        return self.issuer or f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"


class EnvironmentSettings(BaseSettings, SimulatorSettings):
    """The same from the environment: `SIMULATOR_` and the field's name, save those shared with the services."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix="SIMULATOR_", populate_by_name=True, hide_input_in_errors=True
    )
