"""From a verified body to the message that travels. The body itself is forwarded byte for byte.

The door publishes with this what comes in, and the gateway what it releases from the quarantine: the same bytes become
the same event under the same id, whoever publishes them.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import Envelope, Timestamp, is_external_id
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH, field_and_reason
from safevideo_common.events.topics import TOPIC_BY_TYPE, topic_of

ID_HEADERS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]+")
_YEARS: Final = range(2000, 3000)  # every database we run on can hold these, in any time zone


class CorrelationHeaders(Protocol):
    """What ties the request that brought the webhook to its lines and records."""

    @property
    def request_id(self) -> str:
        """Of the request."""
        ...

    @property
    def traceparent(self) -> str:
        """Its W3C trace context."""
        ...


Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""An `ExternalId` or `EventType` but for its characters, which `_check_words` looks at faster than a pattern does."""


class _Data(msgspec.Struct, frozen=True, rename="camel"):
    performer_id: Word | None = None
    verification_id: Word | None = None


class _Body(msgspec.Struct, frozen=True):
    event: Word
    timestamp: Timestamp
    data: _Data
    id: Word | None = None


_NO_ID: Final = "must be 1 to 128 visible ASCII characters"
_decoder: Final = msgspec.json.Decoder(_Body)


def parse_webhook(body: bytes, headers: Mapping[str, str], correlation: CorrelationHeaders) -> Envelope:
    """The envelope of a webhook whose signature holds.

    The id is the one sent in a header, else in the body, else derived from the body: a redelivery gets the same one.
    Raises `ValidationFailed` with the name of the field that is wrong, never its value.
    """
    parsed = _decoded(body)
    _check_words(parsed)
    if parsed.timestamp.year not in _YEARS:
        raise _invalid("timestamp", "out of range")
    if parsed.data.performer_id is None and parsed.event in TOPIC_BY_TYPE:
        raise _invalid("data.performerId", "required for this event")
    return Envelope(
        id=_header_id(headers) or parsed.id or derived_id(body),
        type=parsed.event,
        time=parsed.timestamp,
        subject=parsed.data.performer_id,
        request_id=correlation.request_id,
        traceparent=correlation.traceparent,
    )


def message_of(envelope: Envelope, body: bytes) -> Message:
    """What the log gets: the original bytes, kept in order by performer, where the event is about one."""
    key = (envelope.subject or envelope.id).encode()
    return Message(topic_of(envelope.type), key, body, envelope.headers())


def derived_id(body: bytes) -> str:
    """The id of an event that was sent without one."""
    return f"sha256-{hashlib.sha256(body).hexdigest()}"


def _decoded(body: bytes) -> _Body:
    try:
        body.decode()  # msgspec leaves alone what it skips; nothing but UTF-8 may reach the log
        return _decoder.decode(body)
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


def _header_id(headers: Mapping[str, str]) -> str | None:
    for name in ID_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        if not is_external_id(value):
            raise _invalid(name, _NO_ID)
        return value
    return None


def _invalid(field: str, reason: str) -> ValidationFailed:
    return ValidationFailed("The webhook's body or id is not as agreed.", details={field: reason})
