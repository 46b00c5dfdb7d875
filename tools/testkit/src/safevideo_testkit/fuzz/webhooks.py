"""Webhooks as the provider sends them, signed by independent code, and their HTTP requests."""

import hmac
import time
from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import orjson
from hypothesis import strategies as st

PATH: Final = b"/webhooks/sharegram"
SECRETS: Final = ("the-secret-of-these-tests", "whsec_" + b64encode(b"a secret of Standard Webhooks").decode())
TEXT_KEY: Final = SECRETS[0].encode()
STANDARD_KEYS: Final = (TEXT_KEY, b"a secret of Standard Webhooks")
TEXT_KEYS: Final = tuple(secret.encode() for secret in SECRETS)

SIGNATURES: Final = (b"X-Sharegram-Signature", b"webhook-signature")
TIMESTAMPS: Final = (b"X-Sharegram-Timestamp", b"webhook-timestamp")

Lines = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Webhook:
    """A body and the header lines of its signature. `event_id` is set if the signature covers an id."""

    body: bytes
    lines: Lines
    event_id: str | None = None

    def with_value(self, names: tuple[bytes, ...], value: bytes) -> "Webhook":
        """Return a copy with another value in the lines with these names."""
        lines = tuple((name, value if name in names else old) for name, old in self.lines)
        return replace(self, lines=lines)

    def value_of(self, names: tuple[bytes, ...]) -> bytes:
        return next(value for name, value in self.lines if name in names)


def by_sharegram(body: bytes, key: bytes = TEXT_KEY, timestamp: bytes | None = None) -> Webhook:
    sent = ((TIMESTAMPS[0], timestamp),) if timestamp is not None else ()
    return Webhook(body, ((SIGNATURES[0], b"sha256=" + hmac.digest(key, body, "sha256").hex().encode()), *sent))


def by_standard(body: bytes, event_id: str = "evt_1", key: bytes = TEXT_KEY, timestamp: bytes | None = None) -> Webhook:
    at = seconds_from_now(0) if timestamp is None else timestamp
    digest = hmac.digest(key, b".".join((event_id.encode(), at, body)), "sha256")
    signature = b"v1," + b64encode(digest)
    lines = ((b"webhook-id", event_id.encode()), (TIMESTAMPS[1], at), (SIGNATURES[1], signature))
    return Webhook(body, lines, event_id)


def seconds_from_now(seconds: int) -> bytes:
    """Return a time as unix seconds. Generated values do not depend on it, so a seed stays reproducible."""
    return b"%d" % (int(time.time()) + seconds)


def on_the_wire(webhook: Webhook, cuts: tuple[int, ...] | None = None, extra: Lines = ()) -> bytes:
    """Return a request with its length, or in chunks of the sizes `cuts` (the last has the rest)."""
    if cuts is None:
        framing, content = (b"Content-Length", b"%d" % len(webhook.body)), webhook.body
    else:
        framing, content = (b"Transfer-Encoding", b"chunked"), chunked(webhook.body, cuts)
    return head(b"POST", PATH, ((b"Host", b"x"), *extra, *webhook.lines, framing)) + content


def head(method: bytes, path: bytes, lines: Lines, version: bytes = b"HTTP/1.1") -> bytes:
    written = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return method + b" " + path + b" " + version + b"\r\n" + written + b"\r\n"


def chunked(body: bytes, cuts: tuple[int, ...]) -> bytes:
    parts, rest = [], body
    for size in cuts:
        parts.append(rest[:size])
        rest = rest[size:]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, rest) if part) + b"0\r\n\r\n"


ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=128)
timestamps = st.datetimes(datetime(2000, 1, 2), datetime(2999, 12, 30)).map(lambda at: at.isoformat() + "Z")  # noqa: DTZ001
good_bodies = st.builds(
    lambda event, timestamp, performer, note: orjson.dumps(
        {"event": event, "timestamp": timestamp, "data": {"performerId": performer, "note": note}}
    ),
    st.sampled_from(["performer.profile.updated", "kyc.verification.approved", "never.heard.of"]),
    timestamps,
    ids,
    st.text(st.characters(codec="utf-8"), max_size=40),
)


def signed(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[Webhook]:
    """Generate `bodies` with a valid signature, in either scheme, with any valid secret."""
    times = st.none() | st.integers(-200, 200).map(seconds_from_now)
    return st.builds(by_sharegram, bodies, st.sampled_from(TEXT_KEYS), times) | st.builds(
        by_standard, bodies, ids, st.sampled_from(STANDARD_KEYS), times
    )
