"""Which scheme a request must satisfy."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from safevideo_common.webhooks.signatures.scheme import Headers, RejectReason, Scheme, refused
from safevideo_common.webhooks.signatures.secret import WebhookSecret
from safevideo_common.webhooks.signatures.sharegram import SharegramScheme
from safevideo_common.webhooks.signatures.standard import StandardScheme

SchemeName = Literal["any", "sharegram", "standard"]


class AllClaimedSchemes:
    """Every scheme that the request's headers claim must hold, all under one secret; at least one must be claimed.

    All and not any: were one enough, whoever can meet one scheme could add headers of the other that nobody signed, and
    what reads them later would take them for verified. Under one secret: it is one sender that signed twice, and
    "last used" has one answer.

    That the sender signed in a further scheme, whose headers were taken away on the road, no receiver can see. Where
    that matters, accept the stronger scheme alone (`SCHEMES`).
    """

    def __init__(self, *schemes: Scheme) -> None:
        self._schemes = schemes
        self.signature_header = " or ".join(scheme.signature_header for scheme in schemes)

    def is_claimed(self, headers: Headers) -> bool:
        """Whether any of the schemes is."""
        return any(scheme.is_claimed(headers) for scheme in self._schemes)

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`."""
        found: WebhookSecret | None = None
        for scheme in self._schemes:
            if scheme.is_claimed(headers):
                found = scheme.verify(headers, body, secrets if found is None else (found,), now)
        if found is None:
            raise refused(RejectReason.MISSING, f"There is no signature; it is looked for in {self.signature_header}.")
        return found


SCHEMES: Final[Mapping[SchemeName, Scheme]] = {
    "any": AllClaimedSchemes(SharegramScheme(), StandardScheme()),
    "sharegram": SharegramScheme(),
    "standard": StandardScheme(),
}
"""By the name that a setting gives them."""
