"""A call as HTTP: the signed request of each try, and what its response means."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from math import ceil
from typing import Final, TypeVar

import msgspec
from multidict import CIMultiDictProxy
from yarl import URL

from safevideo_common.clock import Clock
from safevideo_common.errors import IntegrationNotConfigured, SafeVideoError
from safevideo_common.events.bodies import SCHEMA_MISMATCH, decode_body
from safevideo_common.observability.tracing import Span, SpanKind, current_span
from safevideo_common.sharegram.errors import (
    CREDENTIALS_SECONDS,
    MAX_RETRY_AFTER,
    CallError,
    CredentialsRejected,
    FailureReason,
    InvalidResponse,
    SharegramRejected,
    SharegramUnavailable,
)
from safevideo_common.sharegram.operations import OutgoingCall
from safevideo_common.sharegram.transport import HttpTransport, WireRequest, WireResponse

SKEW_SECONDS: Final = 60.0
"""A difference of clocks that is worth a word: Sharegram accepts 300 s."""

UNCONFIGURED_SECONDS: Final = 60
"""Until a job looks again whether there are keys."""

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FIELD: Final = re.compile(r"`(\$[^`]*)`")

Record = TypeVar("Record")


class ResponseReader:
    """Turns a response into the operation's result, or into the error that its status or its body means."""

    def __init__(self, below: "SigningTransport", clock: Clock) -> None:
        self._below = below
        self._clock = clock

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises one of the classes of `errors.py`."""
        response = await self._below.send(call)
        if 200 <= response.status < 300:
            return _decoded(response.body, call.operation.response)
        raise self._error_of(response)

    def _error_of(self, response: WireResponse) -> CallError:
        status = f"{response.status} {_reason_phrase(response)}".strip()
        message = f"Sharegram answered {status}"
        if response.status in {401, 403}:
            return CredentialsRejected(
                FailureReason.CREDENTIALS,
                f"{message}: our credentials are refused{self._skew(response.headers)}",
                retry_after=CREDENTIALS_SECONDS,
            )
        if response.status < 400:
            return InvalidResponse(FailureReason.REDIRECT, f"{message}: redirects are not followed")
        if response.status < 500 and response.status != 429:
            return SharegramRejected(response.status, message, sharegram_code=_code_of(response.body))
        reason = {
            429: FailureReason.RATE_LIMITED,
            502: FailureReason.UNAVAILABLE,
            503: FailureReason.UNAVAILABLE,
            504: FailureReason.UNAVAILABLE,
        }.get(response.status, FailureReason.SERVER_ERROR)
        retry_after = parse_retry_after(response.headers.get("Retry-After"), self._clock)
        return SharegramUnavailable(reason, message, retry_after=retry_after)

    def _skew(self, headers: CIMultiDictProxy[str]) -> str:
        """Return a clause about our clock if it is a likely cause."""
        seconds = clock_difference(headers, self._clock())
        if seconds is None or abs(seconds) < SKEW_SECONDS:
            return ""
        return f"; our clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} Sharegram's"


def clock_difference(headers: CIMultiDictProxy[str], now: datetime) -> float | None:
    """Return the seconds that our clock is ahead of the header `Date`, or None if there is none to read."""
    theirs = _http_date(headers.get("Date", ""))
    return None if theirs is None else (now - theirs).total_seconds()


def parse_retry_after(value: str | None, clock: Clock) -> int | None:
    """Return the seconds of a `Retry-After` (seconds or an HTTP date), from 0 to 300; None if there is none to read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), MAX_RETRY_AFTER)
    at = _http_date(text)
    return None if at is None else max(0, min(ceil((at - clock()).total_seconds()), MAX_RETRY_AFTER))


def _http_date(text: str) -> datetime | None:
    """Return the time of a header, or None: a year, an offset or a number may be larger than Python's."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if at.tzinfo is None else at


def _decoded(body: bytes, kind: type) -> object:
    try:
        return decode_body(_decoder(kind), body)
    except SCHEMA_MISMATCH as error:
        raise invalid_response(error) from None


@cache
def _decoder(kind: type[object]) -> msgspec.json.Decoder[object]:
    return msgspec.json.Decoder(kind)


def decoded_record(raw: msgspec.Raw, kind: type[Record]) -> Record:
    """Return a record of a page, or raise `InvalidResponse`. A webhook with the same text is read the same way."""
    record = _decoded(bytes(raw), kind)
    assert isinstance(record, kind)
    return record


def invalid_response(error: Exception) -> InvalidResponse:
    """Return the error for a response that is not as documented. `error` is one of `SCHEMA_MISMATCH`."""
    if not isinstance(error, msgspec.ValidationError):
        return InvalidResponse(FailureReason.NOT_JSON, "the response is not JSON")
    found = _FIELD.search(str(error))
    path = found[1] if found else "$"
    return InvalidResponse(FailureReason.INVALID_FIELD, f"the response is invalid at {path}", details={"field": path})


def _reason_phrase(response: WireResponse) -> str:
    return "".join(character for character in response.reason[:40] if character.isascii() and character.isprintable())


def _code_of(body: bytes) -> str | None:
    """Return Sharegram's error code, if the body has one that is a plain word."""
    try:
        code = msgspec.json.decode(body, type=_ErrorBody).error.code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return code if _CODE.fullmatch(code) else None


class _ErrorCode(msgspec.Struct):
    code: str


class _ErrorBody(msgspec.Struct):
    error: _ErrorCode


@dataclass(frozen=True, slots=True)
class SharegramCredentials:
    """The keys of the integration. They are in no representation, so in no log."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    integration_id: str = "safevideo"


class SigningTransport:
    """Makes the HTTP request of each try, with a timestamp and signature of its own (contract, §11)."""

    def __init__(
        self,
        transport: HttpTransport,
        base_url: str,
        credentials: Callable[[], SharegramCredentials | None],
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._base = base_url.rstrip("/")
        self._base_path = URL(self._base).raw_path.rstrip("/")
        self._credentials = credentials
        self._clock = clock

    async def send(self, call: OutgoingCall) -> WireResponse:
        """Send one request. Raises `IntegrationNotConfigured`, and what the transport raises."""
        if not self._base:
            raise IntegrationNotConfigured("SHAREGRAM_API_URL is not configured", retry_after=UNCONFIGURED_SECONDS)
        headers = {"X-Request-ID": call.caller.request_id, "Accept": "application/json", "Accept-Encoding": "identity"}
        if call.content_type is not None:
            headers["Content-Type"] = call.content_type
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
        if call.operation.is_signed:
            headers |= self._signature(call)
        span = current_span()
        if span is None:
            return await self._send(call, headers)
        return await self._send_traced(call, headers, span.child(f"Sharegram {call.operation.name}", SpanKind.CLIENT))

    async def _send_traced(self, call: OutgoingCall, headers: dict[str, str], span: Span) -> WireResponse:
        """Send one request as a span. Sharegram may continue the trace."""
        error = "CANCELLED"
        try:
            response = await self._send(call, headers | {"traceparent": span.traceparent})
        except SafeVideoError as failure:
            error = failure.code
            raise
        else:
            error = "" if response.status < 400 else str(response.status)
            return response
        finally:
            span.end({"http.request.method": call.operation.method, "safevideo.try": call.tries}, error)

    async def _send(self, call: OutgoingCall, headers: dict[str, str]) -> WireResponse:
        return await self._transport.send(
            WireRequest(
                call.operation.method,
                URL(f"{self._base}{call.path}{call.query}", encoded=True),
                headers,
                call.body,
                call.operation.max_response_bytes,
                needs_new_connection=not call.is_repeatable,
            )
        )

    def _signature(self, call: OutgoingCall) -> dict[str, str]:
        credentials = self._credentials()
        if credentials is None:
            raise IntegrationNotConfigured(
                "The integration is switched off, or has no API key and secret key", retry_after=UNCONFIGURED_SECONDS
            )
        timestamp = str(int(self._clock().timestamp()))
        return {
            "X-Sharegram-API-Key": credentials.api_key,
            "X-Sharegram-Integration-ID": credentials.integration_id,
            "X-Sharegram-Timestamp": timestamp,
            "X-Sharegram-Signature": call_signature(
                call.operation.method, f"{self._base_path}{call.path}", timestamp, call.body, credentials.secret_key
            ),
        }


def call_signature(method: str, path: str, timestamp: str, body: bytes, secret_key: str) -> str:
    """Return the hex HMAC-SHA256 of `METHOD\\npath\\ntimestamp\\nbody`; `path` is as sent, without the query."""
    signed = f"{method}\n{path}\n{timestamp}\n".encode() + body
    return hmac.digest(secret_key.encode(), signed, "sha256").hex()
