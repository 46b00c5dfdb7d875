"""The access tokens that we issue at a sign-in: JWTs that name a session and die with it (contract, §3).

They are signed with a key derived from `JWT_SECRET`. To rotate it, put the new secret in front: `JWT_SECRET=new,old`.
"""

from hashlib import sha256
from hmac import digest
from typing import Final

import jwt

from safevideo_common.auth.sessions import UserSession
from safevideo_common.auth.tokens import LEEWAY_SECONDS
from safevideo_common.errors import Unauthorized

MAX_BYTES: Final = 2048
_ALGORITHM: Final = "HS256"
_ISSUER: Final = "safevideo"
_TYPE: Final = "at+jwt"
_CHECKS: Final[jwt.types.Options] = {"require": ["exp", "sid", "jti", "sub"], "verify_iat": False}
"""Redis's clock dates a session and may be ahead of ours, so no `iat` is too late: the signature is ours."""


class AccessTokens:
    """The issuer and the reader of our access tokens."""

    def __init__(self, jwt_secret: str) -> None:
        """Take the secret, or several that are separated by commas; the first one signs."""
        self._keys = [digest(each.strip().encode(), b"access tokens", sha256) for each in jwt_secret.split(",")]

    def issue(self, session: UserSession, secret: str) -> str:
        """Return the token that opens `session`."""
        claims = {
            "iss": _ISSUER,
            "sub": str(session.user_id),
            "sid": session.id,
            "jti": secret,
            "iat": int(session.created_at.timestamp()),
            "exp": int(session.expires_at.timestamp()),
        }
        return jwt.encode(claims, self._keys[0], _ALGORITHM, headers={"typ": _TYPE})

    def read(self, token: str) -> tuple[str, str]:
        """Return the id and the secret of the session. Raises `Unauthorized` for a token that is not ours, or expired.

        The session itself is not checked.
        """
        for key in self._keys if len(token) <= MAX_BYTES else ():
            try:
                claims = jwt.decode(token, key, [_ALGORITHM], issuer=_ISSUER, leeway=LEEWAY_SECONDS, options=_CHECKS)
            except (jwt.InvalidTokenError, ValueError):
                continue
            return str(claims["sid"]), str(claims["jti"])
        raise Unauthorized("This access token is not known, or is no longer valid.")
