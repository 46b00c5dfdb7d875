"""Verification of webhook signatures. Each scheme is one class.

A strict pattern checks every value from outside before it is converted. So the leniency of `int()`, of base64 and of
text comparison has no part in the decision. Digests are compared as bytes in constant time.

A new scheme is one file beside `sharegram.py` and `standard.py`, and its line in `schemes.py`.
"""

from safevideo_common.webhooks.signatures.scheme import (
    TOLERANCE_SECONDS,
    Headers,
    RejectReason,
    Scheme,
    SignedIdentity,
)
from safevideo_common.webhooks.signatures.schemes import SCHEMES, AllClaimedSchemes, SchemeName
from safevideo_common.webhooks.signatures.secret import (
    ENVIRONMENT_PREFIX,
    WebhookSecret,
    environment_secrets,
    name_of_secret,
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
    "SignedIdentity",
    "StandardScheme",
    "WebhookSecret",
    "environment_secrets",
    "name_of_secret",
]
