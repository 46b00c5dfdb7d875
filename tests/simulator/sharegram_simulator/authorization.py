"""The authorization codes of sign-ins. A code is valid once, for a minute, and only with its PKCE verifier."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

CODE_LIFETIME: Final = timedelta(seconds=60)
CODES_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Grant:
    """A sign-in that was approved and waits for its code to be exchanged."""

    subject: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    nonce: str | None

    def answers(self, client_id: str, redirect_uri: str, code_verifier: str) -> bool:
        """Return True if the client is the one that requested the code (RFC 7636, S256)."""
        challenge = urlsafe_b64encode(sha256(code_verifier.encode()).digest()).rstrip(b"=")
        same_client = (client_id, redirect_uri) == (self.client_id, self.redirect_uri)
        return same_client and hmac.compare_digest(challenge, self.code_challenge.encode())


class Grants:
    """Codes that are not yet exchanged. The oldest fall out beyond the limit."""

    def __init__(self) -> None:
        self._by_code: dict[str, tuple[Grant, datetime]] = {}

    def open(self, grant: Grant, now: datetime) -> str:
        """A new code for the grant."""
        if len(self._by_code) >= CODES_LIMIT:
            del self._by_code[next(iter(self._by_code))]
        code = token_urlsafe()
        self._by_code[code] = grant, now + CODE_LIFETIME
        return code

    def take(self, code: str, now: datetime) -> Grant | None:
        """The grant behind the code, the first time and in time."""
        grant, until = self._by_code.pop(code, (None, now))
        return grant if now < until else None
