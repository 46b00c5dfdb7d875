"""`/api/integration/status` and `/api/v1/integrations/sharegram/webhook`: the status, the webhook and its secret."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, TypedDict

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMINS, Endpoint, Returns
from gateway.integrations.secret_rotation import TARGET, SecretRotation
from gateway.integrations.status import IntegrationStatus, SharegramIntegrationDocument
from safevideo_common.audit import store as audit_store
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.errors import CircuitBreakerOpen, FallbackActive, InvalidStatusTransition
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import (
    CredentialsRejected,
    InvalidResponse,
    SharegramNotConfigured,
    SharegramRejected,
)
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.web.responses import success

REGISTERED: Final = "webhooks.registered"
PATH: Final = "/api/v1/integrations/sharegram/webhook"
OVERLAP_HOURS: Final = 24
MAX_OVERLAP_HOURS: Final = 24 * 7

_OPERATORS: Final = frozenset({Role.MODERATOR, Role.AUDITOR, Role.ADMIN})


class WebhookBody(Body):
    """The address that Sharegram sends webhooks to, and the types that it sends; without `events` all of them."""

    url: str = Field(pattern=r"^https?://[!-~]{1,1000}$")
    events: list[Annotated[str, Field(pattern=r"^[a-z0-9_.]{1,128}$")]] | None = Field(
        None, min_length=1, max_length=50
    )


class RotationBody(Body):
    """The hours for which the old secrets are valid beside the new one."""

    overlap_hours: int = Field(OVERLAP_HOURS, ge=0, le=MAX_OVERLAP_HOURS)


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
        database: Database,
        status: IntegrationStatus,
        rotation: SecretRotation,
        sharegram: SharegramClient,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._status = status
        self._rotation = rotation
        self._sharegram = sharegram
        self._clock = clock
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        status, registered = (
            Returns(SharegramIntegrationDocument, _STATUS),
            Returns(RegisteredWebhookDocument, _REGISTERED),
        )
        rotated = Returns(RotatedSecretDocument, _ROTATED)
        call_errors = (
            SharegramNotConfigured,
            CircuitBreakerOpen,
            FallbackActive,
            CredentialsRejected,
            SharegramRejected,
            InvalidResponse,
        )
        url = {"url": _REGISTERED["url"]}
        overlap = {"overlapHours": OVERLAP_HOURS}
        return [
            Endpoint("GET", "/api/integration/status", self.status, _OPERATORS, status),
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

    async def register(self, request: web.Request) -> web.Response:
        """Register the address of our webhook endpoint at Sharegram. It is called once: repeat it after a failure.

        Raises `ValidationFailed`, and the errors of the client.
        """
        body, caller = await parse_body(WebhookBody, request), caller_of(request)
        sharegram = SharegramCaller.api(caller.request_id)
        registered = await self._sharegram.register_webhook(sharegram, url=body.url, events=body.events)
        events = None if registered.events is None else list(registered.events)
        document: RegisteredWebhookDocument = {
            "webhookId": registered.webhook_id,
            "url": registered.url,
            "events": events,
        }
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry(REGISTERED, self._clock, document, TARGET))
        self._logger.info("Webhook registered", actor=caller.name, url=body.url, request_id=caller.request_id)
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
