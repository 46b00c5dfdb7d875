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
    SignedIdentity,
    check_timestamp,
    mismatch,
    rejected,
)
from safevideo_common.webhooks.signatures.secret import WebhookSecret

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

# An `istr` is looked up in half the time of a `str`.
_ID_KEY: Final = istr(ID)
_TIMESTAMP_KEY: Final = istr(TIMESTAMP)
_SIGNATURE_KEY: Final = istr(SIGNATURE)

MAX_SIGNATURES: Final = 16
"""Signatures in one header, unknown versions included. A sender sends one for each of its valid secrets."""

_EVENT_ID: Final = re.compile(r"[!-\-/-~]{1,128}")  # visible ASCII without the full stop
_ENTRY: Final = re.compile(r"(v[0-9]{1,3}[a-z]{0,3}),([!-~]{1,512})")
_DIGEST: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")  # the one way to encode each 32 bytes


class StandardScheme:
    """`webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body"> v1,…`, each separated by one space.

    An id with a full stop is rejected: an attacker could move the text after it into the timestamp, and the timestamp
    into the body. Entries of other versions (`v1a` is asymmetric) are skipped. One malformed entry makes the whole
    header malformed.
    """

    signature_header: Final = SIGNATURE

    def is_present(self, headers: Headers) -> bool:
        """See `Scheme`. The id alone does not count: Sharegram's own scheme accepts it as the event id too."""
        return _SIGNATURE_KEY in headers

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`. Id and timestamp are signed: a replay passes only within the tolerance and with the same id."""
        sent_digests = _parse_digests(headers.getall(_SIGNATURE_KEY, ()))
        event_id = _parse_id(headers.getall(_ID_KEY, ()))
        timestamp = _parse_timestamp(headers.getall(_TIMESTAMP_KEY, ()), now)
        signed = b".".join((event_id, timestamp, body))
        for secret in secrets:
            digest = hmac.digest(secret.standard_key, signed, "sha256")
            if any(hmac.compare_digest(digest, sent) for sent in sent_digests):
                return secret
        raise mismatch()

    def identity(self, headers: Headers) -> SignedIdentity:
        """See `Scheme`."""
        return SignedIdentity(headers.getall(_ID_KEY, ())[0], is_body_signed_alone=False)


def _parse_digests(values: Sequence[str]) -> Sequence[bytes]:
    if not values:
        raise rejected(RejectReason.MISSING, f"The {SIGNATURE} header is missing.")
    if len(values) > 1 or values[0].count(" ") >= MAX_SIGNATURES:
        raise _malformed()
    entries = [_entry(text) for text in values[0].split(" ")]
    digests = [_digest(encoded) for version, encoded in entries if version == "v1"]
    if not digests:
        raise rejected(RejectReason.UNSUPPORTED, f"The {SIGNATURE} header has no signature of version v1.")
    return digests


def _entry(text: str) -> tuple[str, str]:
    if (found := _ENTRY.fullmatch(text)) is None:
        raise _malformed()
    return found[1], found[2]


def _digest(encoded: str) -> bytes:
    if not _DIGEST.fullmatch(encoded):
        raise _malformed()
    return b64decode(encoded, validate=True)


def _parse_id(values: Sequence[str]) -> bytes:
    if not values:
        raise rejected(RejectReason.ID_MISSING, f"The {ID} header is missing; this signature covers it.")
    if len(values) > 1 or not _EVENT_ID.fullmatch(values[0]):
        message = f"The {ID} header must be sent once, as 1 to 128 visible ASCII characters without a full stop."
        raise rejected(RejectReason.ID_MALFORMED, message)
    return values[0].encode()


def _parse_timestamp(values: Sequence[str], now: datetime) -> bytes:
    if not values:
        raise rejected(RejectReason.TIMESTAMP_MISSING, f"The {TIMESTAMP} header is missing; this signature covers it.")
    check_timestamp(TIMESTAMP, values, now)
    return values[0].encode()


def _malformed() -> Exception:
    message = (
        f"The {SIGNATURE} header must be sent once, as v1,<base64>; {MAX_SIGNATURES} at most, separated by a space."
    )
    return rejected(RejectReason.MALFORMED, message)
