"""Is a webhook really the provider's? One small class a scheme; the verdict is a value, never a guess.

Everything that comes from outside is matched against a strict pattern before it is converted, so that `int()`'s
leniency, base64's and text comparison have no part in the decision. Digests are compared as bytes in constant time.

A new scheme is one file beside `sharegram.py` and `standard.py`, and its line in `choice.py`.
"""

from safevideo_common.webhooks.signatures.scheme import (
    TOLERANCE_SECONDS,
    Headers,
    RejectReason,
    Scheme,
)
from safevideo_common.webhooks.signatures.schemes import SCHEMES, AllClaimedSchemes, SchemeName
from safevideo_common.webhooks.signatures.secret import (
    ENVIRONMENT_PREFIX,
    WebhookSecret,
    environment_secrets,
)
from safevideo_common.webhooks.signatures.sharegram import SharegramScheme
from safevideo_common.webhooks.signatures.standard import StandardScheme

__all__ = [
    "ENVIRONMENT_PREFIX",
    "SCHEMES",
    "TOLERANCE_SECONDS",
    "AllClaimedSchemes",
    "Headers",
    "RejectReason",
    "Scheme",
    "SchemeName",
    "SharegramScheme",
    "StandardScheme",
    "WebhookSecret",
    "environment_secrets",
]
