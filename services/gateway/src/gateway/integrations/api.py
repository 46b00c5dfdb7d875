"""`/api/integration/status` and `/api/v1/integrations/sharegram/…`: status, configuration, webhook and its secret."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, TypedDict

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMINS, Endpoint, Returns
from gateway.integrations.configuration import IntegrationConfiguration, IntegrationKeys
from gateway.integrations.secret_rotation import SecretRotation
from gateway.integrations.status import IntegrationStatus, SharegramIntegrationDocument
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import TimestampText, rfc3339
from safevideo_common.database.integrations import Integration
from safevideo_common.errors import (
    CircuitBreakerOpen,
    FallbackActive,
    IntegrationNotConfigured,
    InvalidStatusTransition,
    ValidationFailed,
)
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.protections.integration import SharegramIntegration
from safevideo_common.protections.webhook_registration import WebhookRegistration
from safevideo_common.sharegram.errors import (
    CredentialsRejected,
    InvalidResponse,
    SharegramRejected,
)
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.weak_secrets import explain_weak_secret
from safevideo_common.web.responses import success

SHAREGRAM_PATH: Final = "/api/v1/integrations/sharegram"
PATH: Final = f"{SHAREGRAM_PATH}/webhook"
OVERLAP_HOURS: Final = 24
MAX_OVERLAP_HOURS: Final = 24 * 7

_OPERATORS: Final = frozenset({Role.MODERATOR, Role.AUDITOR, Role.ADMIN})


_URL: Final = r"^https?://[!-~]{1,1000}$"
_Key = Annotated[str, Field(pattern=r"^[!-~]{16,512}$")]


class EnableBody(Body):
    """The configuration to store. What is not sent stays as it is; without keys, those that are known are used."""

    api_key: _Key | None = None
    secret_key: _Key | None = None
    webhook_url: str | None = Field(None, pattern=_URL)
    enable_sso: bool | None = Field(None, alias="enableSSO")
    enable_kyc: bool | None = Field(None, alias="enableKYC")
    sync_interval: int | None = Field(None, ge=60, le=7 * 86400, description="Seconds between two syncs.")

    def keys(self) -> IntegrationKeys | None:
        """Return the keys. Raises `ValidationFailed` for one without the other, and for weak ones."""
        api_key, secret_key = self.api_key, self.secret_key
        if api_key is None and secret_key is None:
            return None
        keys = {"apiKey": api_key, "secretKey": secret_key}
        wrong = {
            name: "is missing: both keys are sent together" if key is None else explain_weak_secret(key)
            for name, key in keys.items()
        }
        if api_key is None or secret_key is None or any(wrong.values()):
            raise ValidationFailed("The keys cannot be used.", details={k: v for k, v in wrong.items() if v})
        return IntegrationKeys(api_key, secret_key)

    def values(self) -> dict[str, object]:
        """Return the columns that change."""
        columns = {
            "webhook_url": self.webhook_url,
            "is_sso_enabled": self.enable_sso,
            "is_kyc_enabled": self.enable_kyc,
            "sync_interval_seconds": self.sync_interval,
        }
        return {name: value for name, value in columns.items() if value is not None}


class WebhookBody(Body):
    """The address that Sharegram sends webhooks to, and the types that it sends; without `events` all of them.

    Without `url` it is the `webhookUrl` of the configuration.
    """

    url: str | None = Field(None, pattern=_URL)
    events: list[Annotated[str, Field(pattern=r"^[a-z0-9_.]{1,128}$")]] | None = Field(
        None, min_length=1, max_length=50
    )


class RotationBody(Body):
    """The hours for which the old secrets are valid beside the new one."""

    overlap_hours: int = Field(OVERLAP_HOURS, ge=0, le=MAX_OVERLAP_HOURS)


class IntegrationDocument(TypedDict):
    """The configuration of the integration. Its keys are never shown; null: the environment or the default decides."""

    enabled: bool
    webhookUrl: str | None
    enableSSO: bool | None
    enableKYC: bool | None
    syncInterval: int | None
    configuredAt: TimestampText


class RegisteredWebhookDocument(TypedDict):
    """The registration at Sharegram. `events` is null if all types are sent."""

    webhookId: str
    url: str
    events: list[str] | None


class RotatedSecretDocument(TypedDict):
    """A new secret, which is shown this once. The secrets in `replaced` expire at `overlapUntil`."""

    name: str
    secret: str
    overlapUntil: TimestampText
    replaced: list[str]


_STATUS: Final[SharegramIntegrationDocument] = {
    "sharegram": {
        "enabled": True,
        "lastSyncDate": "2026-11-24T20:58:25.123Z",
        "totalSyncedPerformers": 1204,
        "lastSyncStatus": "completed",
    },
    "kyc": {"statistics": {"verified": 310, "rejected": 4}, "totalRequests": 314},
    "errors": {
        "hasRecentErrors": True,
        "recentErrors": [{"code": "HANDLER_FAILED", "count": 3, "lastAt": "2026-11-24T20:58:25.123Z"}],
    },
}
_INTEGRATION: Final[IntegrationDocument] = {
    "enabled": True,
    "webhookUrl": "https://safevideo.example.com/webhooks/sharegram",
    "enableSSO": True,
    "enableKYC": True,
    "syncInterval": 3600,
    "configuredAt": "2026-11-24T20:58:25.123Z",
}
_REGISTERED: Final[RegisteredWebhookDocument] = {
    "webhookId": "wh_7f9c24e8b8f34c4a8b8d",
    "url": "https://safevideo.example.com/webhooks/sharegram",
    "events": None,
}
_ROTATED: Final[RotatedSecretDocument] = {
    "name": "rotated-20261124-9f03ab",
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
    "overlapUntil": "2026-11-25T20:58:25.123Z",
    "replaced": ["rotated-20260824-41c7d0"],
}


class IntegrationsApi:
    """The endpoints of the integration with Sharegram."""

    def __init__(
        self,
        status: IntegrationStatus,
        configuration: IntegrationConfiguration,
        integration: SharegramIntegration,
        rotation: SecretRotation,
        registration: WebhookRegistration,
        logger: FilteringBoundLogger,
    ) -> None:
        self._status = status
        self._configuration = configuration
        self._integration = integration
        self._rotation = rotation
        self._registration = registration
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        status, registered = (
            Returns(SharegramIntegrationDocument, _STATUS),
            Returns(RegisteredWebhookDocument, _REGISTERED),
        )
        rotated = Returns(RotatedSecretDocument, _ROTATED)
        call_errors = (
            IntegrationNotConfigured,
            CircuitBreakerOpen,
            FallbackActive,
            CredentialsRejected,
            SharegramRejected,
            InvalidResponse,
        )
        url = {"url": _REGISTERED["url"]}
        configured = Returns(IntegrationDocument, _INTEGRATION)
        overlap = {"overlapHours": OVERLAP_HOURS}
        return [
            Endpoint("GET", "/api/integration/status", self.status, _OPERATORS, status),
            Endpoint(
                "POST",
                f"{SHAREGRAM_PATH}/enable",
                self.enable,
                ADMINS,
                configured,
                (IntegrationNotConfigured,),
                body=EnableBody,
                body_example={"enableSSO": True, "enableKYC": True, "syncInterval": 3600},
            ),
            Endpoint(
                "POST", f"{SHAREGRAM_PATH}/disable", self.disable, ADMINS, configured, (IntegrationNotConfigured,)
            ),
            Endpoint("POST", PATH, self.register, ADMINS, registered, call_errors, body=WebhookBody, body_example=url),
            Endpoint(
                "POST",
                f"{PATH}/rotate-secret",
                self.rotate_secret,
                ADMINS,
                rotated,
                (InvalidStatusTransition,),
                body=RotationBody,
                body_example=overlap,
            ),
        ]

    async def status(self, _request: web.Request) -> web.Response:
        """Return the state of the integration: the last sync, KYC requests by status, and recent failures."""
        return success(await self._status.read())

    async def enable(self, request: web.Request) -> web.Response:
        """Enable the integration, and configure it. Every process has it within seconds.

        IntegrationKeys are stored encrypted and never shown. Register the webhook afterwards: `POST …/webhook`. Raises
        `IntegrationNotConfigured` without keys or address, `ValidationFailed`, and `ServiceUnavailable` without
        `ENCRYPTION_KEY`.
        """
        body, caller = await parse_body(EnableBody, request), caller_of(request)
        if body.webhook_url is not None:
            self._registration.check(body.webhook_url, "webhookUrl")
        configured = await self._configuration.enable(body.keys(), body.values(), caller)
        self._logger.info("Integration enabled", actor=caller.name, request_id=caller.request_id)
        return success(_document(configured))

    async def disable(self, request: web.Request) -> web.Response:
        """Disable the integration: no call to Sharegram, no sign-in with it, no KYC request; its jobs wait.

        Webhooks are still accepted and applied. Raises `IntegrationNotConfigured` if there is nothing to disable.
        """
        caller = caller_of(request)
        configured = await self._configuration.disable(caller)
        self._logger.info("Integration disabled", actor=caller.name, request_id=caller.request_id)
        return success(_document(configured))

    async def register(self, request: web.Request) -> web.Response:
        """Register the address of our webhook endpoint at Sharegram. It is called once: repeat it after a failure.

        The audit log has the request before Sharegram is called, and its result afterwards. In production the
        address is https; it never has a user. Raises `ValidationFailed`, and the errors of the client.
        """
        body, caller = await parse_body(WebhookBody, request), caller_of(request)
        url = body.url or self._integration.webhook_url
        if url is None:
            raise ValidationFailed("There is no address.", details={"url": "is missing, also in the configuration"})
        origin = SharegramCaller.api(caller.request_id)
        registered = await self._registration.register(url, body.events, caller, origin)
        events = None if registered.events is None else list(registered.events)
        document: RegisteredWebhookDocument = {
            "webhookId": registered.webhook_id,
            "url": registered.url,
            "events": events,
        }
        self._logger.info("Webhook registered", actor=caller.name, url=url, request_id=caller.request_id)
        return success(document)

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """Store a new secret for webhooks and show it once; enter it at Sharegram. The old ones expire later.

        Secrets of the environment stay valid until they are taken out of `SHAREGRAM_WEBHOOK_SECRET`. Raises
        `InvalidStatusTransition`, `ValidationFailed`, and `ServiceUnavailable` without `ENCRYPTION_KEY`.
        """
        body, caller = await parse_body(RotationBody, request), caller_of(request)
        rotated = await self._rotation.rotate(timedelta(hours=body.overlap_hours), caller)
        self._logger.info("Webhook key rotated", actor=caller.name, key=rotated.name, request_id=caller.request_id)
        document: RotatedSecretDocument = {
            "name": rotated.name,
            "secret": rotated.secret,
            "overlapUntil": rfc3339(rotated.overlap_until),
            "replaced": list(rotated.replaced),
        }
        response = success(document)
        response.headers["Cache-Control"] = "no-store"
        return response


def _document(configured: Integration) -> IntegrationDocument:
    return {
        "enabled": configured.is_enabled,
        "webhookUrl": configured.webhook_url,
        "enableSSO": configured.is_sso_enabled,
        "enableKYC": configured.is_kyc_enabled,
        "syncInterval": configured.sync_interval_seconds,
        "configuredAt": rfc3339(configured.configured_at),
    }
