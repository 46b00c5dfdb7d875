"""Conversion of a verified webhook to a message. The body is forwarded byte for byte.

webhook-ingest and the gateway (for a release from the quarantine) both use it. The same bytes become the same event
with the same id, whichever of the two publishes them.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

import msgspec
from multidict import istr

from safevideo_common.broker.types import Message
from safevideo_common.domain.times import EVENT_YEARS
from safevideo_common.errors import ValidationFailed
from safevideo_common.events.bodies import SCHEMA_MISMATCH, decode_body, field_and_reason
from safevideo_common.events.envelope import Envelope, Timestamp, is_external_id
from safevideo_common.events.topics import TOPIC_BY_TYPE, topic_of
from safevideo_common.webhooks.signatures import Headers, SignedIdentity

ID_HEADERS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_ID_KEYS: Final = tuple((name, istr(name)) for name in ID_HEADERS)
_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]+")


class CorrelationHeaders(Protocol):
    """The ids that link a request to its log lines and records."""

    @property
    def request_id(self) -> str:
        """The id of the request."""
        ...

    @property
    def traceparent(self) -> str:
        """The W3C trace context of the request."""
        ...


Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""The length of an `ExternalId` or `EventType`. `_check_words` checks the characters faster than a pattern does."""


class _Data(msgspec.Struct, frozen=True, rename="camel"):
    performer_id: Word | None = None
    verification_id: Word | None = None


class _Body(msgspec.Struct, frozen=True):
    event: Word
    timestamp: Timestamp
    data: _Data
    id: Word | None = None


_NO_ID: Final = "must be 1 to 128 visible ASCII characters"
_OTHER_ID: Final = "must equal the event's id"
_decoder: Final = msgspec.json.Decoder(_Body)


def parse_webhook(
    body: bytes,
    headers: Headers,
    signed: SignedIdentity,
    correlation: CorrelationHeaders,
    received_at: float = 0.0,
) -> Envelope:
    """Return the envelope of a webhook whose signature was verified; `signed` is what the signature covers.

    The id is the signed one, else that of the body, else that of a header, else derived from the body. So a redelivery
    has the same id. Raises `ValidationFailed` with the name of the invalid field, never its value: also for an id
    header that differs from the id, or that is sent twice.
    """
    parsed = _decode(body)
    _check_words(parsed)
    if parsed.timestamp.year not in EVENT_YEARS:
        raise _invalid("timestamp", "out of range")
    if parsed.data.performer_id is None and parsed.event in TOPIC_BY_TYPE:
        raise _invalid("data.performerId", "required for this event")
    named = _header_ids(headers)
    own_id = signed.event_id or parsed.id
    event_id = own_id or next(iter(named.values()), None) or derived_id(body)
    _check_header_ids(named, parsed.id if signed.is_body_signed_alone and parsed.id else event_id)
    return Envelope(
        id=event_id,
        type=parsed.event,
        time=parsed.timestamp,
        subject=parsed.data.performer_id,
        request_id=correlation.request_id,
        traceparent=correlation.traceparent,
        is_id_signed=not signed.is_body_signed_alone or parsed.id is not None,
        received_at=received_at,
    )


def message_of(envelope: Envelope, body: bytes) -> Message:
    """Return the message to publish: the original bytes, keyed by performer, or by event id if there is none."""
    key = (envelope.subject or envelope.id).encode()
    return Message(topic_of(envelope.type), key, body, envelope.headers())


def derived_id(body: bytes) -> str:
    """Return the id of an event that was sent without one."""
    return f"sha256-{hashlib.sha256(body).hexdigest()}"


def _decode(body: bytes) -> _Body:
    try:
        body.decode()  # msgspec does not validate skipped text, and only UTF-8 may reach the broker
        return decode_body(_decoder, body)
    except SCHEMA_MISMATCH as error:
        raise _invalid(*field_and_reason(error)) from None


def _check_words(parsed: _Body) -> None:
    if parsed.event not in TOPIC_BY_TYPE and not _TYPE.fullmatch(parsed.event):
        raise _invalid("event", "must be letters, digits, dots, hyphens and underscores")
    data = parsed.data
    ids = ("id", parsed.id), ("data.performerId", data.performer_id), ("data.verificationId", data.verification_id)
    for field, value in ids:
        if value is not None and not is_external_id(value):
            raise _invalid(field, _NO_ID)


def _header_ids(headers: Headers) -> dict[str, str]:
    """Return the id headers that were sent, in the order of their rank."""
    found = {}
    for name, key in _ID_KEYS:
        values = headers.getall(key, ())
        if len(values) > 1:
            raise _invalid(name, "must be sent once")
        if values:
            if not is_external_id(values[0]):
                raise _invalid(name, _NO_ID)
            found[name] = values[0]
    return found


def _check_header_ids(named: Mapping[str, str], expected: str) -> None:
    for name, value in named.items():
        if value != expected:
            raise _invalid(name, _OTHER_ID)


def _invalid(field: str, reason: str) -> ValidationFailed:
    return ValidationFailed("The webhook's body or id does not match the schema.", details={field: reason})
