"""`POST /webhooks/sharegram`: size, then signature over the raw bytes, then parsing, then the log, then the answer."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final

import orjson
from aiohttp import web

from safevideo_common.broker.port import Producer
from safevideo_common.clock import Clock
from safevideo_common.errors import (
    BrokerUnavailable,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RequestTimedOut,
    SafeVideoError,
    UnsupportedMediaType,
    WebhookSignatureInvalid,
)
from safevideo_common.events.envelope import Envelope
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.correlation import CORRELATION, Correlation
from safevideo_common.web.middleware import LOGS_ITSELF, BufferedRequest
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import RejectReason, Scheme, WebhookSecret
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.protection.limits import Limits, RequestHead
from webhook_ingest.quarantine.capture import Quarantine, offer_rejected
from webhook_ingest.secrets.port import SecretSource
from webhook_ingest.settings import IngestSettings

SOURCE: Final = "sharegram"
PATH: Final = "/webhooks/sharegram"

Reading = Callable[[], Awaitable[bytes]]


class ReceiveWebhook:
    """The handler. It answers 200 only for an event that is safe; whatever else happens has a code of its own."""

    def __init__(
        self,
        settings: IngestSettings,
        scheme: Scheme,
        secrets: SecretSource,
        publisher: Producer,
        quarantine: Quarantine,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: IngestMetrics,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._settings = settings
        self._secrets = secrets
        self._scheme = scheme
        self._publisher = publisher
        self._quarantine = quarantine
        self._clock = clock
        self._log = log
        self._metrics = metrics

    async def handle(self, request: web.Request) -> web.Response:
        """Take one webhook. A redelivery is published again under the same id; the inbox makes it one event."""
        request[LOGS_ITSELF] = True
        said = await self._answer(request, request[CORRELATION], partial(self._read, request))
        return web.Response(body=said, content_type="application/json")

    async def handle_buffered(self, request: BufferedRequest) -> bytes:
        """Take one webhook that was received whole, as nearly all are."""
        return await self._answer(request, request.correlation, request.body)

    async def _answer(self, head: RequestHead, correlation: Correlation, body: bytes | Reading) -> bytes:
        try:
            with self._limits.in_flight:
                _refuse_encoding(head.headers.get("Content-Encoding"))
                self._limits.admit(head)
                began = perf_counter()
                if not isinstance(body, bytes):
                    body = await body()
                elif len(body) > self._settings.max_webhook_bytes:
                    raise _too_large(self._settings)
                return await self._take(head, correlation, body, began)
        except WebhookSignatureInvalid as error:
            self._refuse(head, correlation, error)
            raise await self._limits.answer_to_forger(head, error) from None
        except SafeVideoError as error:
            self._refuse(head, correlation, error)
            raise

    async def _take(self, head: RequestHead, correlation: Correlation, body: bytes, began: float) -> bytes:
        read = perf_counter()
        self._metrics.read.observe(read - began)
        secret = self._verified(head, correlation, body)
        envelope = parse_webhook(body, head.headers, correlation)
        verified = perf_counter()
        self._metrics.verify.observe(verified - read)
        await self._publisher.publish(message_of(envelope, body))
        self._metrics.publish.observe(perf_counter() - verified)
        self._metrics.accepted(SOURCE, secret.name)
        self._log_accepted(envelope, secret)
        return _accepted(envelope.id)

    async def _read(self, request: web.Request) -> bytes:
        try:
            if request.content.is_eof():  # it is there, and only the request is no plain one
                return await request.read()
            if (request.content_length or 0) > self._settings.max_webhook_bytes:
                raise _too_large(self._settings)
            async with self._limits.waiting_for_body(request):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(self._settings) from None

    def _verified(self, head: RequestHead, correlation: Correlation, body: bytes) -> WebhookSecret:
        now = self._clock()
        try:
            secret = self._scheme.verify(head.headers, body, self._secrets.at(now), now)
        except WebhookSignatureInvalid as error:
            remote = self._limits.address(head)
            offer_rejected(
                self._quarantine, head.headers, body, error, received_at=now, remote=remote, correlation=correlation
            )
            raise
        self._secrets.note_use(secret, now)
        return secret

    def _refuse(self, head: RequestHead, correlation: Correlation, error: SafeVideoError) -> None:
        reason = _reason(error)
        self._metrics.refused(reason)
        if reason == RejectReason.MISMATCH:
            self._secrets.refresh_soon()  # perhaps its secret was made just now: the provider's next try will hold
        says = "invalid" if isinstance(error, WebhookSignatureInvalid) else _SIGNATURE_STATE.get(type(error), "valid")
        self._log.warning(
            f"Webhook signature {says}",
            code=error.code,
            outcome="refused",
            reason=reason,
            fields=",".join(error.details) if error.details and says == "valid" else None,
            remote=head.remote,
            request_id=correlation.request_id,
        )

    def _log_accepted(self, envelope: Envelope, secret: WebhookSecret) -> None:
        self._log.info(
            "Webhook signature valid",
            outcome="accepted",
            event_id=envelope.id,
            type=envelope.type,
            performer=envelope.subject,
            key=secret.name,
            request_id=envelope.request_id,
        )


_SIGNATURE_STATE: Final = dict.fromkeys(
    (PayloadTooLarge, UnsupportedMediaType, RequestTimedOut, RateLimited, Overloaded), "unchecked"
)
"""What is refused before the signature is looked at."""


_REASONS: Final[Mapping[type[SafeVideoError], str]] = {BrokerUnavailable: "log_unavailable", Overloaded: "overloaded"}
"""Two that share a code and mean different things to an operator."""


def _reason(error: SafeVideoError) -> str:
    if isinstance(error, WebhookSignatureInvalid) and error.details:
        return str(error.details["reason"])
    return _REASONS.get(type(error)) or error.code.lower()


def _refuse_encoding(encoding: str | None) -> None:
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("A webhook's body must not be compressed or encoded.")


def _too_large(settings: IngestSettings) -> PayloadTooLarge:
    return PayloadTooLarge(f"A webhook may have {settings.max_webhook_bytes} bytes at most.")


def _accepted(webhook_id: str) -> bytes:
    return orjson.dumps({"success": True, "webhookId": webhook_id, "message": "Webhook received"})
