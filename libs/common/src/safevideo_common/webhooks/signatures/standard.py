"""The Standard Webhooks scheme, version 1.0.0 of its specification, symmetric signatures (`v1`) only."""

import hmac
import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from multidict import istr

from safevideo_common.webhooks.signatures.scheme import (
    Headers,
    RejectReason,
    check_timestamp,
    mismatch,
    refused,
)
from safevideo_common.webhooks.signatures.secret import WebhookSecret

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

# Made for look-ups: half the time that plain text takes.
_ID_KEY: Final = istr(ID)
_TIMESTAMP_KEY: Final = istr(TIMESTAMP)
_SIGNATURE_KEY: Final = istr(SIGNATURE)

MAX_SIGNATURES: Final = 16
"""In one header, those of unknown versions included: a sender has one for each of its secrets that are valid."""

_EVENT_ID: Final = re.compile(r"[!-\-/-~]{1,128}")  # visible ASCII without the full stop
_ENTRY: Final = re.compile(r"(v[0-9]{1,3}[a-z]{0,3}),([!-~]{1,512})")
_DIGEST: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")  # the one way to encode each 32 bytes


class StandardScheme:
    """`webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body"> v1,…`, each separated by one space.

    An id with a full stop is refused: what follows the stop could be passed off as the timestamp, and the true
    timestamp as part of the body. Entries of other versions (`v1a` is asymmetric) are skipped; one malformed entry
    spoils the whole header.
    """

    signature_header: Final = SIGNATURE

    def is_claimed(self, headers: Headers) -> bool:
        """See `Scheme`. The id alone claims nothing: in Sharegram's own scheme too it may name the event."""
        return _SIGNATURE_KEY in headers

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`. Id and timestamp are signed: a replay holds within the window only, and under its own id."""
        given = _given_digests(headers.getall(_SIGNATURE_KEY, ()))
        event_id = _given_id(headers.getall(_ID_KEY, ()))
        timestamp = _given_timestamp(headers.getall(_TIMESTAMP_KEY, ()), now)
        signed = b".".join((event_id, timestamp, body))
        for secret in secrets:
            digest = hmac.digest(secret.standard_key, signed, "sha256")
            if any(hmac.compare_digest(digest, one) for one in given):
                return secret
        raise mismatch()


def _given_digests(values: Sequence[str]) -> Sequence[bytes]:
    if not values:
        raise refused(RejectReason.MISSING, f"The {SIGNATURE} header is missing.")
    if len(values) > 1 or values[0].count(" ") >= MAX_SIGNATURES:
        raise _malformed()
    entries = [_entry(text) for text in values[0].split(" ")]
    digests = [_digest(encoded) for version, encoded in entries if version == "v1"]
    if not digests:
        raise refused(RejectReason.UNSUPPORTED, f"The {SIGNATURE} header has no signature of version v1.")
    return digests


def _entry(text: str) -> tuple[str, str]:
    if (found := _ENTRY.fullmatch(text)) is None:
        raise _malformed()
    return found[1], found[2]


def _digest(encoded: str) -> bytes:
    if not _DIGEST.fullmatch(encoded):
        raise _malformed()
    return b64decode(encoded, validate=True)


def _given_id(values: Sequence[str]) -> bytes:
    if not values:
        raise refused(RejectReason.ID_MISSING, f"The {ID} header is missing, which this signature covers.")
    if len(values) > 1 or not _EVENT_ID.fullmatch(values[0]):
        said = f"The {ID} header must be sent once, as 1 to 128 visible ASCII characters without a full stop."
        raise refused(RejectReason.ID_MALFORMED, said)
    return values[0].encode()


def _given_timestamp(values: Sequence[str], now: datetime) -> bytes:
    if not values:
        raise refused(
            RejectReason.TIMESTAMP_MISSING, f"The {TIMESTAMP} header is missing, which this signature covers."
        )
    check_timestamp(TIMESTAMP, values, now)
    return values[0].encode()


def _malformed() -> Exception:
    said = f"The {SIGNATURE} header must be sent once, as v1,<base64>; {MAX_SIGNATURES} at most, separated by a space."
    return refused(RejectReason.MALFORMED, said)
