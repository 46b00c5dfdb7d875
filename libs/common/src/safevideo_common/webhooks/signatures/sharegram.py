"""Sharegram's own scheme (contract, §7)."""

import hmac
import re
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

SIGNATURE: Final = "X-Sharegram-Signature"
TIMESTAMP: Final = "X-Sharegram-Timestamp"
EVENT_ID: Final = "X-Sharegram-Event-Id"

# An `istr` is looked up in half the time of a `str`.
_SIGNATURE_KEY: Final = istr(SIGNATURE)
_TIMESTAMP_KEY: Final = istr(TIMESTAMP)
_EVENT_ID_KEY: Final = istr(EVENT_ID)

_DIGEST: Final = re.compile(r"sha256=([0-9a-f]{64})")
_IDENTITY: Final = SignedIdentity(event_id=None, is_body_signed_alone=True)


class SharegramScheme:
    """`X-Sharegram-Signature: sha256=<hex HMAC-SHA256 of the raw body>`, and an optional timestamp."""

    signature_header: Final = SIGNATURE

    def is_present(self, headers: Headers) -> bool:
        """See `Scheme`. The event id counts too: added to another scheme's delivery it would rename the event."""
        return _SIGNATURE_KEY in headers or _EVENT_ID_KEY in headers

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`. The signature does not cover the timestamp: it only bounds delays.

        Nor does it cover an id in a header. So the inbox recognises such an event by its bytes.
        """
        sent_digest = _parse_digest(headers.getall(_SIGNATURE_KEY, ()))
        if timestamps := headers.getall(_TIMESTAMP_KEY, ()):
            check_timestamp(TIMESTAMP, timestamps, now)
        for secret in secrets:
            if hmac.compare_digest(hmac.digest(secret.key, body, "sha256"), sent_digest):
                return secret
        raise mismatch()

    def identity(self, headers: Headers) -> SignedIdentity:  # noqa: ARG002
        """See `Scheme`."""
        return _IDENTITY


def _parse_digest(values: Sequence[str]) -> bytes:
    if not values:
        raise rejected(RejectReason.MISSING, f"The {SIGNATURE} header is missing.")
    found = _DIGEST.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        message = f"The {SIGNATURE} header must be sent once, as sha256=<64 lower-case hex digits>."
        raise rejected(RejectReason.MALFORMED, message)
    return bytes.fromhex(found[1])
