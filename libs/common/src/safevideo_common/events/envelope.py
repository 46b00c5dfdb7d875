"""The envelope: CloudEvents 1.0, Kafka binding, binary mode. Attributes are headers, the value is the original body."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

import msgspec

from safevideo_common.clock import utc_text
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.times import EVENT_YEARS, is_storable

SOURCE: Final = "sharegram"
"""The source of events that Sharegram sent. Our own sources begin with `/safevideo/`."""

ExternalId = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,128}\Z")]
"""An id that another party made: 1 to 128 visible ASCII characters, which every collation and log line keeps whole."""

EventType = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,128}\Z")]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


def check_event_time(at: datetime) -> None:
    """Raise `ValueError` for a time that nobody means, and that no database or time zone could hold at its ends.

    A `msgspec.Struct` with a `Timestamp` from outside calls it in `__post_init__`: it is invalid then.
    """
    if at.year not in EVENT_YEARS:
        raise ValueError("the time is out of range")


def is_external_id(text: str) -> bool:
    """Return whether `text` is an `ExternalId`, in a third of the time that the pattern takes."""
    return 0 < len(text) <= 128 and text.isascii() and text.isprintable() and " " not in text


MAX_ID_LENGTH: Final = 128


def id_with_suffix(event_id: str, suffix: str) -> str:
    """Return `event_id` with `suffix`. If that is too long, its SHA-256 in hex takes the place of `event_id`."""
    is_short = len(event_id) + len(suffix) <= MAX_ID_LENGTH
    return (event_id if is_short else sha256(event_id.encode()).hexdigest()) + suffix


class EnvelopeInvalid(ValueError):
    """The headers of a record are not those of an event. The message names the attribute, never its value."""


class Envelope(NamedTuple):
    """The attributes of an event outside its body."""

    id: str
    type: str
    time: datetime
    """The provider's `timestamp`: when it happened there."""
    subject: str | None = None
    """The Sharegram performer id that the event is about, where it is about one."""
    request_id: str = ""
    traceparent: str = ""
    source: str = SOURCE
    """The publisher; an id is unique within its source."""
    is_id_signed: bool = True
    """False if anybody can send the same bytes under another id: then the bytes identify the event."""
    received_at: float = 0.0
    """Unix time at which webhook-ingest had the request; 0 if unknown. A record that was spooled is younger."""

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """Return the attributes as record headers, without the absent ones."""
        headers = [
            *_constant_headers(self.source),
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", rfc3339_precise(self.time)),
        ]
        if self.subject:
            headers.append(("ce_subject", self.subject.encode()))
        if self.request_id:
            headers.append(("request_id", self.request_id.encode()))
        if self.traceparent:
            headers.append(("traceparent", self.traceparent.encode()))
        if not self.is_id_signed:
            headers.append(_UNSIGNED_ID)
        if self.received_at:
            headers.append(("received_at", b"%.3f" % self.received_at))
        return tuple(headers)


_UNSIGNED_ID: Final = ("id_unsigned", b"true")


@lru_cache(maxsize=64)
def _constant_headers(source: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that all events of a source have."""
    return (("ce_specversion", b"1.0"), ("ce_source", source.encode()), ("content-type", b"application/json"))


def rfc3339_precise(at: datetime) -> bytes:
    """Return `at` like `rfc3339`, with microseconds where there are any: they decide the order of events."""
    text = utc_text(at).encode()
    if not at.microsecond:
        return text + b".000Z"
    return (text if at.microsecond % 1000 else text[:-3]) + b"Z"


class Attributes(msgspec.Struct, frozen=True):
    """The headers that are read; `content-type` and `ce_specversion` are the same in every event."""

    ce_id: ExternalId
    ce_type: EventType
    ce_time: Timestamp
    ce_subject: ExternalId | None = None
    request_id: str = ""
    traceparent: str = ""
    ce_source: str = SOURCE
    id_unsigned: bool = False
    received_at: float = 0.0


def parse_headers(headers: tuple[tuple[str, bytes], ...]) -> Envelope:
    """Parse what `Envelope.headers` made. Raises `EnvelopeInvalid`."""
    try:
        found = msgspec.convert({name: value.decode() for name, value in headers}, Attributes, strict=False)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise EnvelopeInvalid(str(error)) from None
    if not is_storable(found.ce_time):
        raise EnvelopeInvalid("the time is out of range - at `$.ce_time`")
    return Envelope(
        found.ce_id,
        found.ce_type,
        found.ce_time,
        found.ce_subject,
        found.request_id,
        found.traceparent,
        found.ce_source,
        not found.id_unsigned,
        found.received_at,
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def time_of(write: WriteVersion) -> datetime:
    """Return the time of a write, in UTC."""
    return time_of_micros(write.at_micros)


def time_of_micros(at_micros: int) -> datetime:
    """Return the time of Unix microseconds, in UTC."""
    return _EPOCH + at_micros * _MICROSECOND


def write_version_of(version: int | None, at: datetime, arrival: int) -> WriteVersion:
    """Return the write version of an event that happened at `at`, with the provider's version if it sent one."""
    return WriteVersion(version, (at - _EPOCH) // _MICROSECOND, arrival)
