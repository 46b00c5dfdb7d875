"""The interface of a signature scheme, and the parts that all schemes share."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures.secret import WebhookSecret

TOLERANCE_SECONDS: Final = 300
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Headers(Protocol):
    """Request headers: names are case-insensitive and may occur several times."""

    def getall(self, key: str, default: tuple[str, ...]) -> Sequence[str]:
        """Return every value of `key`, or `default`."""
        ...

    def __contains__(self, key: object) -> bool:
        """Return True if `key` occurs."""
        ...


class SignedIdentity(NamedTuple):
    """The identity of an event, as far as its verified signature covers it."""

    event_id: str | None
    """The signed id, or None if the id is in no signature."""
    is_body_signed_alone: bool
    """True if the body alone was signed: whoever has it and that signature can send both under any id."""


class Scheme(Protocol):
    """A signature scheme. A new provider's scheme is one more class like `SharegramScheme`."""

    @property
    def signature_header(self) -> str:
        """The name of the header that carries the signature."""
        ...

    def is_present(self, headers: Headers) -> bool:
        """Return True if the headers claim this scheme. Only the header names count."""
        ...

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[WebhookSecret], now: datetime) -> WebhookSecret:
        """Return the first of `secrets` that signed `body`.

        Raise `WebhookSignatureInvalid` and nothing else; `details.reason` is one of the constants of `RejectReason`.
        """
        ...

    def identity(self, headers: Headers) -> SignedIdentity:
        """Return what the signature covers, for `headers` that `verify` has accepted."""
        ...


class RejectReason:
    """Reasons why a signature is rejected. Operators group by these words."""

    MISSING: Final = "signature_missing"
    MALFORMED: Final = "signature_malformed"
    UNSUPPORTED: Final = "signature_unsupported"
    MISMATCH: Final = "signature_mismatch"
    TIMESTAMP_MISSING: Final = "timestamp_missing"
    TIMESTAMP_MALFORMED: Final = "timestamp_malformed"
    TIMESTAMP_OUT_OF_TOLERANCE: Final = "timestamp_out_of_tolerance"
    ID_MISSING: Final = "id_missing"
    ID_MALFORMED: Final = "id_malformed"


def rejected(reason: str, message: str) -> WebhookSignatureInvalid:
    """Return the error to raise. The sender sees `message`, so it quotes no input and names no secret."""
    return WebhookSignatureInvalid(message, details={"reason": reason})


def mismatch() -> WebhookSignatureInvalid:
    """Return the error for a well-formed signature that matches no secret."""
    return rejected(RejectReason.MISMATCH, "The signature does not match under any secret that is valid now.")


def check_timestamp(header: str, values: Sequence[str], now: datetime) -> None:
    """Raise `WebhookSignatureInvalid` unless `values` is one timestamp within `TOLERANCE_SECONDS` of `now`.

    `values` holds every value of the header `header`.
    """
    if len(values) != 1 or not _UNIX_SECONDS.fullmatch(values[0]):
        raise rejected(RejectReason.TIMESTAMP_MALFORMED, f"The {header} header must be sent once, in unix seconds.")
    if abs(now.timestamp() - int(values[0])) > TOLERANCE_SECONDS:
        message = f"The {header} is more than {TOLERANCE_SECONDS} s from our clock."
        raise rejected(RejectReason.TIMESTAMP_OUT_OF_TOLERANCE, message)
