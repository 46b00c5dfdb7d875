"""An event as the request that carries it, signed; or spoilt on purpose, to see it refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final, Literal

from sharegram_simulator.signing import SCHEMES, SIGNATURE_HEADERS, SchemeName

Forgery = Literal["signature", "body", "timestamp", "unsigned", "renamed", "reused_id"]
"""Signed with another secret; changed after signing; signed an hour ago; not signed at all; rightly signed, but under
a new id in an unsigned header; rightly signed, under the id of the request before and with other bytes."""

OUT_OF_TOLERANCE: Final = timedelta(hours=1)
ENVELOPE: Final = {"Content-Type": "application/json", "User-Agent": "Sharegram-Webhooks/1.0"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that is ready to be sent."""

    headers: Mapping[str, str]
    body: bytes


def compose(
    body: bytes,
    event_id: str | None,
    secret: str,
    at: datetime,
    scheme: SchemeName,
    forgery: Forgery | None = None,
    number: int = 0,
) -> Outgoing:
    """Sign `body` as at the moment `at`. Raises `ValueError` where the scheme needs an id and there is none.

    `number` counts the requests of one event: the first has 0.
    """
    if forgery == "reused_id":
        body += b" " * number
    key = token_hex() if forgery == "signature" else secret
    signed_at = at - OUT_OF_TOLERANCE if forgery == "timestamp" else at
    headers = ENVELOPE | SCHEMES[scheme](body, key, signed_at, event_id)
    if forgery == "unsigned":
        del headers[SIGNATURE_HEADERS[scheme]]
    if forgery == "renamed":
        headers["X-Sharegram-Event-Id"] = f"renamed_{token_hex(16)}"
    # White space keeps it JSON, so nothing but the signature can give it away.
    return Outgoing(headers, body + b" " if forgery == "body" else body)
