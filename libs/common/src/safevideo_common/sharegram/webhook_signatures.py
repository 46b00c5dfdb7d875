"""Is a webhook really Sharegram's? One small class a scheme; the verdict is a value, never a guess.

Everything that comes from outside is matched against a strict pattern before it is converted, so that `int()`'s
leniency and text comparison have no part in the decision. Digests are compared as bytes in constant time.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from safevideo_common.errors import WebhookSignatureInvalid

TOLERANCE_SECONDS: Final = 300
SIGNATURE_HEADER: Final = "X-Sharegram-Signature"
TIMESTAMP_HEADER: Final = "X-Sharegram-Timestamp"
_SIGNATURE: Final = re.compile(r"sha256=([0-9a-f]{64})")
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Headers(Protocol):
    """Request headers: case-insensitive, and a name may occur several times."""

    def getall(self, key: str, default: tuple[str, ...]) -> Sequence[str]:
        """Every value of `key`; `default` where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """One of the secrets that are valid at present, with the name it goes by in logs."""

    name: str
    key: bytes


class Scheme(Protocol):
    """A way to sign. A new provider's scheme is one more class like `SharegramScheme`."""

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """The secret that the signature over `body` was made with.

        Raises `WebhookSignatureInvalid`, `details.reason` being one of the constants of `Refusal`.
        """
        ...


class Refusal:
    """Why a signature does not hold. Operators group by these words."""

    MISSING: Final = "signature_missing"
    MALFORMED: Final = "signature_malformed"
    MISMATCH: Final = "signature_mismatch"
    TIMESTAMP_MALFORMED: Final = "timestamp_malformed"
    TIMESTAMP_OUT_OF_TOLERANCE: Final = "timestamp_out_of_tolerance"


_MESSAGES: Final[Mapping[str, str]] = {
    Refusal.MISSING: f"The {SIGNATURE_HEADER} header is missing.",
    Refusal.MALFORMED: f"The {SIGNATURE_HEADER} header must be sent once, as sha256=<64 lower-case hex digits>.",
    Refusal.MISMATCH: "The signature does not match the body under any secret that is valid now.",
    Refusal.TIMESTAMP_MALFORMED: f"The {TIMESTAMP_HEADER} header must be sent once, in unix seconds.",
    Refusal.TIMESTAMP_OUT_OF_TOLERANCE: f"The {TIMESTAMP_HEADER} is more than {TOLERANCE_SECONDS} s from our clock.",
}


class SharegramScheme:
    """`X-Sharegram-Signature: sha256=<hex HMAC-SHA256 of the raw body>`, and a timestamp where sent (contract, §7)."""

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """See `Scheme`. The signature leaves the timestamp out: it bounds honest delays, the inbox stops replays."""
        given = _given_digest(headers.getall(SIGNATURE_HEADER, ()))
        if timestamps := headers.getall(TIMESTAMP_HEADER, ()):
            _check_timestamp(timestamps, now)
        for secret in secrets:
            if hmac.compare_digest(hmac.digest(secret.key, body, "sha256"), given):
                return secret
        raise _refused(Refusal.MISMATCH)


def _given_digest(values: Sequence[str]) -> bytes:
    if not values:
        raise _refused(Refusal.MISSING)
    found = _SIGNATURE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise _refused(Refusal.MALFORMED)
    return bytes.fromhex(found[1])


def _check_timestamp(values: Sequence[str], now: datetime) -> None:
    if len(values) > 1 or not _UNIX_SECONDS.fullmatch(values[0]):
        raise _refused(Refusal.TIMESTAMP_MALFORMED)
    if abs(now.timestamp() - int(values[0])) > TOLERANCE_SECONDS:
        raise _refused(Refusal.TIMESTAMP_OUT_OF_TOLERANCE)


def _refused(reason: str) -> WebhookSignatureInvalid:
    return WebhookSignatureInvalid(_MESSAGES[reason], details={"reason": reason})
