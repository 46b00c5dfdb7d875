"""What every scheme is, and what schemes have in common."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures.secret import WebhookSecret

TOLERANCE_SECONDS: Final = 300
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Headers(Protocol):
    """Request headers: case-insensitive, and a name may occur several times."""

    def getall(self, key: str, default: tuple[str, ...]) -> Sequence[str]:
        """Every value of `key`; `default` where there is none."""
        ...

    def __contains__(self, key: object) -> bool:
        """Whether `key` occurs."""
        ...


class Scheme(Protocol):
    """A way to sign. A new provider's scheme is one more class like `SharegramScheme`."""

    @property
    def signature_header(self) -> str:
        """Where the signature is looked for."""
        ...

    def is_claimed(self, headers: Headers) -> bool:
        """Whether the request says that it is signed this way. It looks at the names alone."""
        ...

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """The first of `secrets` that a signature over `body` was made with.

        Raise `WebhookSignatureInvalid` and nothing else; `details.reason` is one of the constants of `RejectReason`.
        """
        ...


class RejectReason:
    """Why a signature does not hold. Operators group by these words."""

    MISSING: Final = "signature_missing"
    MALFORMED: Final = "signature_malformed"
    UNSUPPORTED: Final = "signature_unsupported"
    MISMATCH: Final = "signature_mismatch"
    TIMESTAMP_MISSING: Final = "timestamp_missing"
    TIMESTAMP_MALFORMED: Final = "timestamp_malformed"
    TIMESTAMP_OUT_OF_TOLERANCE: Final = "timestamp_out_of_tolerance"
    ID_MISSING: Final = "id_missing"
    ID_MALFORMED: Final = "id_malformed"


def refused(reason: str, message: str) -> WebhookSignatureInvalid:
    """The error to raise. `message` is answered to whoever sent the request: it quotes nothing and names no secret."""
    return WebhookSignatureInvalid(message, details={"reason": reason})


def mismatch() -> WebhookSignatureInvalid:
    """For a signature that is well formed and wrong."""
    return refused(RejectReason.MISMATCH, "The signature does not match under any secret that is valid now.")


def check_timestamp(header: str, values: Sequence[str], now: datetime) -> None:
    """Return if `values`, all that was sent as `header`, are one moment within `TOLERANCE_SECONDS` on either side.

    Raises `WebhookSignatureInvalid` for a malformed one or one out of tolerance.
    """
    if len(values) != 1 or not _UNIX_SECONDS.fullmatch(values[0]):
        raise refused(RejectReason.TIMESTAMP_MALFORMED, f"The {header} header must be sent once, in unix seconds.")
    if abs(now.timestamp() - int(values[0])) > TOLERANCE_SECONDS:
        said = f"The {header} is more than {TOLERANCE_SECONDS} s from our clock."
        raise refused(RejectReason.TIMESTAMP_OUT_OF_TOLERANCE, said)
