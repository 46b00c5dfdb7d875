"""Settings of the gateway, in addition to the common ones."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, TypeAdapter, field_validator, model_validator

from gateway.sign_in.provider import ProviderSettings
from safevideo_common.auth.sessions import SSO_DB
from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import Cipher
from safevideo_common.settings import CommonSettings
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_common.webhooks.signatures import WebhookSecret, environment_secrets

ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]


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

    redis_sso_db: int = Field(SSO_DB, ge=0, le=15, description="Redis database of the sessions of people.")
    public_url: str = Field(
        "http://127.0.0.1:3000", description="Address of this site as browsers see it, without a path."
    )
    jwt_secret: SecretStr | None = Field(
        None,
        description="Signs the access tokens of people; during a rotation several, comma-separated, the newest first. "
        "Nobody can sign in without it.",
    )
    sharegram_issuer: str = Field(
        "", description="Issuer of Sharegram's tokens, to the letter. Empty: nobody can sign in with Sharegram."
    )
    sharegram_audience: str = Field("safevideo", description="Audience of Sharegram's tokens: our client id there.")
    sharegram_jwks_uri: str = Field("", description="Address of Sharegram's signing keys. Empty: from discovery.")
    sharegram_auth_url: str = Field(
        "", description="Address at which browsers sign in with Sharegram. Empty: from discovery."
    )
    sharegram_client_secret: SecretStr | None = Field(
        None, description="Our client secret at Sharegram, if it gave us one."
    )
    sharegram_algorithms: str = Field(
        "RS256", description="Allowed signature algorithms of its tokens, comma-separated: RS256, ES256, EdDSA."
    )
    sharegram_links_by_email: bool = Field(
        True, description="An e-mail that Sharegram verified may link a first sign-in to an existing account."
    )
    sso_providers: str = Field(
        "{}",
        description="Other OpenID providers by name, as JSON: "
        '{"firebase": {"issuer": "https://…", "audience": "…", "algorithms": ["RS256"]}}. '
        "Also: jwks_uri, auth_url, client_secret, links_by_email.",
    )

    @field_validator("sharegram_webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            environment_secrets(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"https", "http"} or not parts.hostname or value != f"{parts.scheme}://{parts.netloc}":
            raise ValueError("must be https://host[:port], without a slash at the end")
        return value

    @model_validator(mode="after")
    def _has_valid_providers(self) -> Self:
        self.providers()
        return self

    def providers(self) -> dict[str, ProviderSettings]:
        """Return the configured OpenID providers by name. Raises `ValueError` for wrong ones."""
        providers = TypeAdapter(dict[ProviderName, ProviderSettings]).validate_json(self.sso_providers)
        if not self.sharegram_issuer:
            return providers
        sharegram = ProviderSettings(
            issuer=self.sharegram_issuer,
            audience=self.sharegram_audience,
            jwks_uri=self.sharegram_jwks_uri,
            auth_url=self.sharegram_auth_url,
            client_secret=self.sharegram_client_secret,
            algorithms=frozenset(name.strip() for name in self.sharegram_algorithms.split(",")),
            links_by_email=self.sharegram_links_by_email,
        )
        return {**providers, SHAREGRAM: sharegram}

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """Return the webhook secrets of the environment."""
        secret = self.sharegram_webhook_secret
        return environment_secrets(secret.get_secret_value()) if secret else ()

    def cipher(self) -> Cipher | None:
        """Return the cipher of the quarantine, or None without a key. Raises `StartupError` for a malformed key."""
        return Cipher.from_key(self.encryption_key.get_secret_value()) if self.encryption_key else None
