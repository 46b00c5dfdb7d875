"""What is kept of a webhook whose signature was refused, and which of them are worth keeping (contract, §7)."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from multidict import CIMultiDictProxy

from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.signatures import (
    SharegramScheme,
    StandardScheme,
    sharegram,
    standard,
)

SIGNATURE_HEADERS: Final = {
    "sharegram": SharegramScheme.signature_header,
    "standard": StandardScheme.signature_header,
}
KEPT_HEADERS: Final = (
    sharegram.SIGNATURE,
    sharegram.TIMESTAMP,
    sharegram.EVENT_ID,
    standard.ID,
    standard.TIMESTAMP,
    standard.SIGNATURE,
)
"""What verifying and naming the webhook again needs. A new scheme's headers go here too."""

TRACEPARENT: Final = "traceparent"
"""Kept beside them, as the door has settled it, since the event carries it."""

MAX_VALUES: Final = 2
"""Of one header: a second one is why it was refused, more is nonsense."""

_VALUE: Final = re.compile(r"[ -~]{0,1024}")
_OBJECT: Final = re.compile(rb"\s*\{")


class Rejected(NamedTuple):
    """One refused webhook, as it came."""

    received_at: datetime
    reason: str
    code: str
    scheme: str
    """The schemes it claims: `sharegram`, `standard`, or both joined by a plus sign."""
    headers: Mapping[str, Sequence[str]]
    body: bytes
    remote: str
    request_id: str


class Quarantine(Protocol):
    """Keeps what was refused, as far as there is room."""

    def offer(self, rejected: Rejected) -> None:
        """Take it or drop it, at once and without an error: nobody waits for the quarantine."""
        ...


class NoQuarantine:
    """For a door without `ENCRYPTION_KEY`: nothing is kept, since nothing may be kept in the clear."""

    def offer(self, rejected: Rejected) -> None:
        """Drop it."""


def is_plausible(headers: CIMultiDictProxy[str], body: bytes) -> bool:
    """The rule: a signature header of ours, a body of a size that we take, and JSON by its type or its first character.

    And the headers that matter are of a size and kind that any scheme could ever accept.
    """
    return (
        any(name in headers for name in SIGNATURE_HEADERS.values())
        and 0 < len(body) <= MAX_VALUE_BYTES
        and ("json" in headers.get("Content-Type", "").lower() or _OBJECT.match(body) is not None)
        and all(_is_sane(headers.getall(name, ())) for name in KEPT_HEADERS)
    )


def offer_rejected(
    quarantine: Quarantine,
    headers: CIMultiDictProxy[str],
    body: bytes,
    error: WebhookSignatureInvalid,
    *,
    received_at: datetime,
    remote: str,
    correlation: Correlation,
) -> None:
    """Offer a refused request if it looks like ours. `received_at` is the moment its timestamp was judged by."""
    if is_plausible(headers, body):
        kept = {str(name): list(headers.getall(name)) for name in KEPT_HEADERS if name in headers}
        rejected = Rejected(
            received_at,
            str((error.details or {}).get("reason", "")),
            error.code,
            "+".join(scheme for scheme, name in SIGNATURE_HEADERS.items() if name in headers),
            kept | {TRACEPARENT: [correlation.traceparent]},
            body,
            remote,
            correlation.request_id,
        )
        quarantine.offer(rejected)


def _is_sane(values: Sequence[str]) -> bool:
    return len(values) <= MAX_VALUES and all(_VALUE.fullmatch(value) for value in values)
