"""Settings of the gateway, in addition to the common ones."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, TypeAdapter, ValidationError, field_validator, model_validator

from gateway.http.rate_limits import RateLimitClass, parse_rate
from gateway.sign_in.provider import ProviderSettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.jwks import ALGORITHMS
from safevideo_common.auth.sessions import SSO_DB
from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.documents.settings import KycSettings
from safevideo_common.errors import StartupError
from safevideo_common.protections.settings import ProtectionSettings
from safevideo_common.resilience.rate_limiter import Rate
from safevideo_common.settings import ProxySettings
from safevideo_common.webhooks.signatures import SchemeName, WebhookSecret, environment_secrets

ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
_PROVIDERS: Final = TypeAdapter(dict[ProviderName, ProviderSettings])
_ROLES: Final = TypeAdapter(dict[str, Role])
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(","))


def _is_encrypted(url: str) -> bool:
    """Return whether nobody on the way can listen: https, or an address of this machine."""
    address = urlsplit(url)
    return address.scheme == "https" or address.hostname in _THIS_MACHINE


class GatewaySettings(KycSettings, ProtectionSettings, ProxySettings):
    """Settings of `gateway`."""

    required_in_production: ClassVar[tuple[str, ...]] = ("encryption_key",)

    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    redis_timeout_seconds: float = Field(
        ANSWER_SECONDS, gt=0, le=2, description="Seconds to wait for Redis before the database is used instead."
    )

    sharegram_webhook_secret: SecretStr | None = Field(
        None, description="The same as for webhook-ingest: the gateway reverifies rejected webhooks with it."
    )
    webhook_scheme: SchemeName = Field(
        "any", description="The same as for webhook-ingest: a scheme that it does not accept is not released either."
    )

    redis_sso_db: int = Field(SSO_DB, ge=0, le=15, description="Redis database of the sessions of people.")
    public_url: str = Field(
        "http://127.0.0.1:3000",
        description="Address of this site as browsers see it, without a path. Required in production with a provider.",
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
    sharegram_role_claim: str = Field(
        "",
        description="Claim of Sharegram's tokens that names roles, or the path to it with dots. Empty: none counts.",
    )
    sharegram_roles_by_claim: str = Field(
        "{}",
        description='The role that each value of this claim gives, as JSON: {"moderators": "moderator"}. '
        "A sign-in without the claim takes the role back; one that an admin gave stays.",
    )
    sso_providers: str = Field(
        "{}",
        description="Other OpenID providers by name, as JSON: "
        '{"firebase": {"issuer": "https://…", "audience": "…", "algorithms": ["RS256"]}}. '
        "Also: jwks_uri, auth_url, client_secret, links_by_email, role_claim, roles_by_claim.",
    )

    rate_limit_authentication: str = Field(
        "10/60", description="Sign-ins and wrong credentials of an address: requests/seconds."
    )
    rate_limit_kyc: str = Field("5/3600", description="KYC submissions of a caller: requests/seconds.")
    rate_limit_upload: str = Field("30/600", description="Uploads of documents of a caller: requests/seconds.")
    rate_limit_sync: str = Field("1/300", description="Starts of a full sync by a caller: requests/seconds.")
    rate_limit_general: str = Field("100/60", description="All other requests of a caller: requests/seconds.")

    audit_retention_days: int = Field(
        365, ge=30, le=3650, description="Days that an entry stays in the audit log. Nothing else deletes one."
    )

    @field_validator(
        "rate_limit_authentication", "rate_limit_kyc", "rate_limit_upload", "rate_limit_sync", "rate_limit_general"
    )
    @classmethod
    def _is_rate(cls, value: str) -> str:
        parse_rate(value)
        return value

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

    @field_validator("sso_providers")
    @classmethod
    def _are_providers(cls, value: str) -> str:
        try:
            _PROVIDERS.validate_json(value)
        except ValidationError as error:  # its text quotes the values, and one of them may be a secret
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            path = ".".join(map(str, first["loc"]))
            raise ValueError(f"must be providers by name, as JSON; {path}: {first['msg']}") from None
        return value

    @field_validator("sharegram_roles_by_claim")
    @classmethod
    def _are_roles(cls, value: str) -> str:
        try:
            _ROLES.validate_json(value)
        except ValidationError:  # its text quotes the values
            raise ValueError(f"must be roles by value, as JSON; roles are {', '.join(Role)}") from None
        return value

    @field_validator("sharegram_algorithms")
    @classmethod
    def _are_algorithms(cls, value: str) -> str:
        if not _names(value) <= ALGORITHMS:
            raise ValueError(f"must be some of {', '.join(sorted(ALGORITHMS))}")
        return value

    @field_validator("sharegram_issuer", "sharegram_jwks_uri", "sharegram_auth_url")
    @classmethod
    def _is_http_or_empty(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @model_validator(mode="after")
    def _signs_people_in_safely(self) -> Self:
        """Raise `StartupError` for a production whose sign-in could not work, or could be listened to."""
        if self.safevideo_env != "production" or not (providers := self.providers()):
            return self
        if self.jwt_secret is None:
            raise StartupError("JWT_SECRET is missing: nobody could sign in. Set it, or no SHAREGRAM_ISSUER.")
        if "public_url" not in self.model_fields_set:
            raise StartupError("PUBLIC_URL is missing: browsers could not come back from their sign-in. Set it.")
        if not _is_encrypted(self.public_url):
            raise StartupError("PUBLIC_URL is not encrypted: use https, or SAFEVIDEO_ENV=development.")
        for name, each in providers.items():
            if not _is_encrypted(each.issuer):
                raise StartupError(f"The issuer of {name} is not encrypted: use https, or SAFEVIDEO_ENV=development.")
        return self

    def providers(self) -> dict[str, ProviderSettings]:
        """Return the configured OpenID providers by name."""
        providers = _PROVIDERS.validate_json(self.sso_providers)
        if not self.sharegram_issuer:
            return providers
        sharegram = ProviderSettings(
            issuer=self.sharegram_issuer,
            audience=self.sharegram_audience,
            jwks_uri=self.sharegram_jwks_uri,
            auth_url=self.sharegram_auth_url,
            client_secret=self.sharegram_client_secret,
            algorithms=_names(self.sharegram_algorithms),
            links_by_email=self.sharegram_links_by_email,
            role_claim=self.sharegram_role_claim,
            roles_by_claim=_ROLES.validate_json(self.sharegram_roles_by_claim),
        )
        return {**providers, SHAREGRAM: sharegram}

    def rates(self) -> Mapping[RateLimitClass, Rate]:
        """Return the rate limits of the API."""
        return {
            RateLimitClass.AUTHENTICATION: parse_rate(self.rate_limit_authentication),
            RateLimitClass.KYC_SUBMISSION: parse_rate(self.rate_limit_kyc),
            RateLimitClass.DOCUMENT_UPLOAD: parse_rate(self.rate_limit_upload),
            RateLimitClass.SYNC_START: parse_rate(self.rate_limit_sync),
            RateLimitClass.GENERAL: parse_rate(self.rate_limit_general),
        }

    def webhook_secrets(self) -> tuple[WebhookSecret, ...]:
        """Return the webhook secrets of the environment."""
        secret = self.sharegram_webhook_secret
        return environment_secrets(secret.get_secret_value()) if secret else ()
