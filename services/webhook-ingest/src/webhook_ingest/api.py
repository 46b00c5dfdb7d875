"""`POST /webhooks/sharegram`: check the size, verify the signature, parse, make durable, respond.

The way of a webhook: `ReceiveWebhook` → `webhooks/signatures` → `webhooks/parsing.py` →
`publishing/spooling_publisher.py` → `broker`.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter, time
from typing import Final

import orjson
from aiohttp import web

from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.errors import (
    BrokerUnavailable,
    ClientGone,
    MalformedRequest,
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
from safevideo_common.observability.tracing import Span, SpanKind, Tracer
from safevideo_common.web.correlation import CORRELATION, Correlation
from safevideo_common.web.middleware import LOGS_ITSELF, BufferedRequest, body_error
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import RejectReason, Scheme, WebhookSecret
from webhook_ingest.metrics import IngestMetrics
from webhook_ingest.protection.limits import Limits, RequestHead
from webhook_ingest.quarantine import QuarantineQueue
from webhook_ingest.secrets import KeyRing
from webhook_ingest.settings import IngestSettings

SOURCE: Final = "sharegram"
PATH: Final = "/webhooks/sharegram"

ReadBody = Callable[[], Awaitable[bytes]]


class ReceiveWebhook:
    """The handler. It responds 200 only for a durable event; each error has its own code."""

    def __init__(
        self,
        settings: IngestSettings,
        scheme: Scheme,
        key_ring: KeyRing,
        publisher: Producer,
        quarantine: QuarantineQueue | None,
        *,
        clock: Clock,
        logger: FilteringBoundLogger,
        metrics: IngestMetrics,
        limits: Limits,
        tracer: Tracer | None,
    ) -> None:
        """Without `quarantine`, rejected webhooks are not stored. Without `tracer` there are no traces."""
        self._tracer = tracer
        self._limits = limits
        self._settings = settings
        self._key_ring = key_ring
        self._scheme = scheme
        self._publisher = publisher
        self._quarantine = quarantine
        self._clock = clock
        self._logger = logger
        self._metrics = metrics

    async def handle(self, request: web.Request) -> web.Response:
        """Receive a webhook. A redelivery is published again with the same id; the inbox removes the duplicate."""
        request[LOGS_ITSELF] = True
        response = await self._receive(request, request[CORRELATION], partial(self._read, request))
        return web.Response(body=response, content_type="application/json")

    async def handle_buffered(self, request: BufferedRequest) -> bytes:
        """Receive a webhook whose head and body arrived together, as nearly all do. Return the body of the response."""
        return await self._receive(request, request.correlation, request.body)

    async def _receive(self, head: RequestHead, correlation: Correlation, body: bytes | ReadBody) -> bytes:
        try:
            with self._limits.in_flight:
                _reject_encoding(head.headers.get("Content-Encoding"))
                self._limits.admit_body(head)
                started = perf_counter()
                if not isinstance(body, bytes):
                    body = await body()
                elif len(body) > self._settings.max_webhook_bytes:
                    raise _too_large(self._settings)
                return await self._accept(head, correlation, body, started)
        except WebhookSignatureInvalid as error:
            self._report_rejection(head, correlation, error)
            raise await self._limits.throttled_response(head, error) from None
        except SafeVideoError as error:
            self._report_rejection(head, correlation, error)
            raise

    async def _accept(self, head: RequestHead, correlation: Correlation, body: bytes, started: float) -> bytes:
        read = perf_counter()
        self._metrics.read.observe(read - started)
        secret = self._verify(head, correlation, body)
        span: Span | None = None
        if self._tracer is not None:  # after the signature: nobody else fills the collector
            span = self._tracer.sample(f"POST {PATH}", SpanKind.SERVER, correlation.traceparent)
        if span is not None:
            correlation = correlation._replace(traceparent=span.traceparent)
        envelope = parse_webhook(body, head.headers, self._scheme.identity(head.headers), correlation, time())
        verified = perf_counter()
        self._metrics.verify.observe(verified - read)
        message = message_of(envelope, body)
        if span is None:
            await self._publisher.publish(message)
        else:
            await self._publish_traced(message, envelope, span)
        self._metrics.publish.observe(perf_counter() - verified)
        self._metrics.accepted(SOURCE, secret.name)
        self._logger.info(
            "Webhook signature valid",
            outcome="accepted",
            event_id=envelope.id,
            type=envelope.type,
            performer=envelope.subject,
            key=secret.name,
            request_id=envelope.request_id,
        )
        return orjson.dumps({"success": True, "webhookId": envelope.id, "message": "Webhook received"})

    async def _publish_traced(self, message: Message, envelope: Envelope, span: Span) -> None:
        sending = span.child(f"send {message.topic}", SpanKind.PRODUCER)
        error = "CANCELLED"
        try:
            await self._publisher.publish(message)
            error = ""
        except SafeVideoError as failure:
            error = failure.code
            raise
        finally:
            sending.end({"messaging.system": "kafka", "messaging.destination.name": message.topic}, error)
            span.end({"cloudevents.event_id": envelope.id, "cloudevents.event_type": envelope.type}, error)

    async def _read(self, request: web.Request) -> bytes:
        try:
            if request.content.is_eof():  # it arrived with the head
                return await request.read()
            if (request.content_length or 0) > self._settings.max_webhook_bytes:
                raise _too_large(self._settings)
            async with self._limits.reading_body(request):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(self._settings) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise body_error(error) from None

    def _verify(self, head: RequestHead, correlation: Correlation, body: bytes) -> WebhookSecret:
        now = self._clock()
        try:
            secret = self._scheme.verify(head.headers, body, self._key_ring.active_at(now), now)
        except WebhookSignatureInvalid as error:
            if self._quarantine is not None:
                remote = self._limits.client_address(head)
                self._quarantine.offer_request(
                    head.headers, body, error, received_at=now, remote=remote, correlation=correlation
                )
            raise
        self._key_ring.record_use(secret, now)
        return secret

    def _report_rejection(self, head: RequestHead, correlation: Correlation, error: SafeVideoError) -> None:
        reason = _reason(error)
        self._metrics.rejected(reason)
        if reason == RejectReason.MISMATCH:
            self._key_ring.request_refresh()  # a new secret may exist: then the sender's retry succeeds
        is_invalid = isinstance(error, WebhookSignatureInvalid)
        state = "invalid" if is_invalid else _SIGNATURE_STATES.get(type(error), "valid")
        event = f"Webhook signature {state}"
        self._logger.warning(
            event,
            code=error.code,
            outcome="refused",
            reason=reason,
            fields=",".join(error.details) if error.details and state == "valid" else None,
            remote=self._limits.client_address(head),
            request_id=correlation.request_id,
        )


_SIGNATURE_STATES: Final = dict.fromkeys(
    (
        PayloadTooLarge,
        UnsupportedMediaType,
        RequestTimedOut,
        RateLimited,
        Overloaded,
        ClientGone,
        MalformedRequest,
    ),
    "unchecked",
)
"""The state of the signature in log lines, for errors before the verification. After it the signature is valid."""

_REASONS: Final[Mapping[type[SafeVideoError], str]] = {
    BrokerUnavailable: "broker_unavailable",
    Overloaded: "overloaded",
    MalformedRequest: "malformed_body",
}
"""Reasons of errors that share a code and mean different things to an operator."""


def _reason(error: SafeVideoError) -> str:
    if isinstance(error, WebhookSignatureInvalid) and error.details:
        return str(error.details["reason"])
    return _REASONS.get(type(error)) or error.code.lower()


def _reject_encoding(encoding: str | None) -> None:
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("A webhook's body must not be compressed or encoded.")


def _too_large(settings: IngestSettings) -> PayloadTooLarge:
    return PayloadTooLarge(f"A webhook may have {settings.max_webhook_bytes} bytes at most.")
