"""The choice of the signature scheme."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from safevideo_common.webhooks.signatures.scheme import Headers, RejectReason, Scheme, SignedIdentity, rejected
from safevideo_common.webhooks.signatures.secret import WebhookSecret
from safevideo_common.webhooks.signatures.sharegram import SharegramScheme
from safevideo_common.webhooks.signatures.standard import StandardScheme

SchemeName = Literal["any", "sharegram", "standard"]


class AllClaimedSchemes:
    """A scheme that verifies every scheme whose headers are present, all with the same secret.

    *All schemes*: if one were enough, a sender could add unsigned headers of the other scheme, and later readers would
    take those for verified. *The same secret*: one sender signed twice, and "last used" has one answer.

    A receiver cannot detect that a proxy removed the headers of a second signature (downgrade). To prevent it, accept
    only the stronger scheme (`SCHEMES`).
    """

    def __init__(self, *schemes: Scheme) -> None:
        self._schemes = schemes
        self.signature_header = " or ".join(scheme.signature_header for scheme in schemes)

    def is_present(self, headers: Headers) -> bool:
        """Return True if the headers of at least one scheme are present."""
        return any(scheme.is_present(headers) for scheme in self._schemes)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`."""
        signer: WebhookSecret | None = None
        for scheme in self._schemes:
            if scheme.is_present(headers):
                signer = scheme.verify(headers, body, secrets if signer is None else (signer,), now)
        if signer is None:
            raise rejected(RejectReason.MISSING, f"There is no signature. Expected header: {self.signature_header}.")
        return signer

    def identity(self, headers: Headers) -> SignedIdentity:
        """See `Scheme`. Somebody may remove one of two signatures, so the body counts as signed alone with both."""
        found = [scheme.identity(headers) for scheme in self._schemes if scheme.is_present(headers)]
        event_id = next((each.event_id for each in found if each.event_id is not None), None)
        return SignedIdentity(event_id, any(each.is_body_signed_alone for each in found))


SCHEMES: Final[Mapping[SchemeName, Scheme]] = {
    "any": AllClaimedSchemes(SharegramScheme(), StandardScheme()),
    "sharegram": SharegramScheme(),
    "standard": StandardScheme(),
}
"""Schemes by their name in the setting `WEBHOOK_SCHEME`."""
