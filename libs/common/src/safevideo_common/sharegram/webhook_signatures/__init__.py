"""Is a webhook really the provider's? One small class a scheme; the verdict is a value, never a guess.

Everything that comes from outside is matched against a strict pattern before it is converted, so that `int()`'s
leniency, base64's and text comparison have no part in the decision. Digests are compared as bytes in constant time.

A new scheme is one file beside `sharegram.py` and `standard.py`, and its line in `choice.py`.
"""

from safevideo_common.sharegram.webhook_signatures.choice import SCHEMES, SchemeChoice, SchemeName
from safevideo_common.sharegram.webhook_signatures.scheme import TOLERANCE_SECONDS, Headers, Refusal, Scheme
from safevideo_common.sharegram.webhook_signatures.secret import ENVIRONMENT_PREFIX, WebhookSecret, environment_secrets
from safevideo_common.sharegram.webhook_signatures.sharegram import SharegramScheme
from safevideo_common.sharegram.webhook_signatures.standard import StandardScheme

__all__ = [
    "ENVIRONMENT_PREFIX",
    "SCHEMES",
    "TOLERANCE_SECONDS",
    "Headers",
    "Refusal",
    "Scheme",
    "SchemeChoice",
    "SchemeName",
    "SharegramScheme",
    "StandardScheme",
    "WebhookSecret",
    "environment_secrets",
]
