"""`POST /webhooks/sharegram`: size, then signature over the raw bytes, then parsing, then the log, then the answer."""

import asyncio
from time import perf_counter
from typing import Final

from aiohttp import web

from safevideo_common.clock import Clock
from safevideo_common.errors import (
    LogUnavailable,
    PayloadTooLarge,
    RequestTimedOut,
    SafeVideoError,
    UnsupportedMediaType,
    WebhookSignatureInvalid,
)
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import topic_of
from safevideo_common.messaging.port import Message, Publisher
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.webhook_signatures import Scheme, WebhookSecret
from safevideo_common.web.correlation import CORRELATION
from safevideo_common.web.edge import LOGS_ITSELF
from safevideo_common.web.envelope import json_response
from webhook_ingest.handlers.parsing import parse_webhook
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.settings import IngestSettings

PATH: Final = "/webhooks/sharegram"


class ReceiveWebhook:
    """The handler. It answers 200 only for an event that is safe; whatever else happens has a code of its own."""

    def __init__(
        self,
        settings: IngestSettings,
        scheme: Scheme,
        publisher: Publisher,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: IngestMetrics,
    ) -> None:
        self._settings = settings
        self._secrets = settings.webhook_secrets()
        self._scheme = scheme
        self._publisher = publisher
        self._clock = clock
        self._log = log
        self._metrics = metrics

    async def handle(self, request: web.Request) -> web.Response:
        """Take one webhook. A redelivery is published again under the same id; the inbox makes it one event."""
        request[LOGS_ITSELF] = True
        try:
            body = await self._read(request)
            secret = self._scheme.verify(request.headers, body, self._secrets, self._clock())
            envelope = parse_webhook(body, request.headers, request[CORRELATION])
            await self._publish(envelope, body)
        except SafeVideoError as error:
            self._refuse(request, error)
            raise
        self._log_accepted(envelope, secret)
        return _accepted(envelope.id)

    async def _read(self, request: web.Request) -> bytes:
        _refuse_encoding(request.headers.get("Content-Encoding"))
        try:
            if request.content.is_eof():  # it came along with the headers, as nearly all do: nothing is waited for
                return await request.read()
            if (request.content_length or 0) > self._settings.max_webhook_bytes:
                raise _too_large(self._settings)
            async with asyncio.timeout(self._settings.body_read_seconds):
                return await request.read()
        except TimeoutError:
            raise RequestTimedOut("The body did not arrive in time.") from None
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(self._settings) from None

    async def _publish(self, envelope: Envelope, body: bytes) -> None:
        started = perf_counter()
        key = (envelope.subject or envelope.id).encode()
        await self._publisher.publish(Message(topic_of(envelope.type), key, body, envelope.headers()))
        self._metrics.accepted(perf_counter() - started)

    def _refuse(self, request: web.Request, error: SafeVideoError) -> None:
        reason = _reason(error)
        self._metrics.refused(reason)
        says = "invalid" if isinstance(error, WebhookSignatureInvalid) else _SIGNATURE_STATE.get(type(error), "valid")
        self._log.warning(
            f"Webhook signature {says}",
            code=error.code,
            outcome="refused",
            reason=reason,
            fields=",".join(error.details) if error.details and says == "valid" else None,
            remote=request.remote,
            request_id=request[CORRELATION].request_id,
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


_SIGNATURE_STATE: Final = dict.fromkeys((PayloadTooLarge, UnsupportedMediaType, RequestTimedOut), "unchecked")
"""What is refused before the signature is looked at."""


def _reason(error: SafeVideoError) -> str:
    if isinstance(error, WebhookSignatureInvalid) and error.details:
        return str(error.details["reason"])
    return "log_unavailable" if isinstance(error, LogUnavailable) else error.code.lower()


def _refuse_encoding(encoding: str | None) -> None:
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("A webhook's body must not be compressed or encoded.")


def _too_large(settings: IngestSettings) -> PayloadTooLarge:
    return PayloadTooLarge(f"A webhook may have {settings.max_webhook_bytes} bytes at most.")


def _accepted(webhook_id: str) -> web.Response:
    return json_response({"success": True, "webhookId": webhook_id, "message": "Webhook received"})
