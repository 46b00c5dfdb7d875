"""From a verified body to the envelope that travels with it. The body itself is forwarded byte for byte."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import Envelope, EventType, ExternalId, Moment
from safevideo_common.events.shape import NOT_OF_THE_SHAPE, field_and_reason
from safevideo_common.events.topics import TOPIC_BY_TYPE
from safevideo_common.web.correlation import Correlation

ID_HEADERS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_ID: Final = re.compile(r"[!-~]{1,128}")
_YEARS: Final = range(2000, 3000)  # every database we run on can hold these, in any time zone


class _Data(msgspec.Struct, frozen=True, rename="camel"):
    performer_id: ExternalId | None = None
    verification_id: ExternalId | None = None


class _Body(msgspec.Struct, frozen=True):
    event: EventType
    timestamp: Moment
    data: _Data
    id: ExternalId | None = None


_decoder: Final = msgspec.json.Decoder(_Body)


def parse_webhook(body: bytes, headers: Mapping[str, str], correlation: Correlation) -> Envelope:
    """The envelope of a webhook whose signature holds.

    The id is the one sent in a header, else in the body, else derived from the body: a redelivery gets the same one.
    Raises `ValidationFailed` with the name of the field that is wrong, never its value.
    """
    parsed = _decoded(body)
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


def derived_id(body: bytes) -> str:
    """The id of an event that was sent without one."""
    return f"sha256-{hashlib.sha256(body).hexdigest()}"


def _decoded(body: bytes) -> _Body:
    try:
        body.decode()  # msgspec leaves alone what it skips; nothing but UTF-8 may reach the log
        return _decoder.decode(body)
    except NOT_OF_THE_SHAPE as error:
        raise _invalid(*field_and_reason(error)) from None


def _header_id(headers: Mapping[str, str]) -> str | None:
    for name in ID_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        if not _ID.fullmatch(value):
            raise _invalid(name, "must be 1 to 128 visible ASCII characters")
        return value
    return None


def _invalid(field: str, reason: str) -> ValidationFailed:
    return ValidationFailed("The webhook's body or id is not as agreed.", details={field: reason})
