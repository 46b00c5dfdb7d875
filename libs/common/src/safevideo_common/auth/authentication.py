"""The caller of a request, by whichever credential it has: an API key, an access token, or the cookie of a browser.

- One credential counts. A credential in a header, even a wrong one, never falls back to the cookie. Two are 401.
- A cookie that is sent twice is none. What it authorises to change needs our own `Origin` and the CSRF token.
- A session that cannot be checked, since Redis or the database does not answer, is 503 and never 401.
"""

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Final, NamedTuple, Protocol

from aiohttp import web
from multidict import CIMultiDictProxy

from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.authenticator import CLIENT_HEADER, KEY_HEADER, ApiKeyAuthenticator
from safevideo_common.auth.principal import Principal, Rights
from safevideo_common.auth.sessions import SessionStore, UserSession
from safevideo_common.errors import CredentialsMissing, Forbidden, Unauthorized

SESSION_COOKIE: Final = "__Host-safevideo_session"
CSRF_COOKIE: Final = "__Host-safevideo_csrf"
CSRF_HEADER: Final = "X-CSRF-Token"

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+) *", re.IGNORECASE | re.ASCII)
_COOKIE_VALUE: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})", re.ASCII)
_NO_CREDENTIAL: Final = (
    f"Send an access token in the header Authorization, or the headers {CLIENT_HEADER} and {KEY_HEADER}."
)
_ENDED: Final = "This session has ended. Sign in again."


class Accounts(Protocol):
    """The accounts that sessions belong to."""

    async def rights_of(self, user_id: int, generation: str) -> Rights | None:
        """Return the rights, or None if sessions of this generation have ended. Raises `DatabaseUnavailable`."""
        ...


class SessionCookie(NamedTuple):
    """The value of the session's cookie, in its two parts."""

    session_id: str
    secret: str

    @classmethod
    def of(cls, headers: CIMultiDictProxy[str]) -> "SessionCookie | None":
        """Return the cookie of a request, or None. A cookie that is there twice is none."""
        values = cookie_values(headers, SESSION_COOKIE)
        match = _COOKIE_VALUE.fullmatch(values[0]) if len(values) == 1 else None
        return cls(match[1], match[2]) if match else None

    @property
    def value(self) -> str:
        """The value to set."""
        return f"{self.session_id}.{self.secret}"

    @property
    def csrf_token(self) -> str:
        """The token that a page sends back in a header; another site cannot read it."""
        return digest(self.secret.encode(), b"csrf", sha256).hex()


def cookie_values(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return all values that a request has for a cookie, as they were sent."""
    pairs = (pair.strip().partition("=") for line in headers.getall("Cookie", ()) for pair in line.split(";"))
    return [value for found, _, value in pairs if found == name]


class RequestAuthenticator:
    """An `Authenticator` for every credential. Without `tokens` there is no sign-in, and only API keys count."""

    def __init__(
        self,
        api_keys: ApiKeyAuthenticator,
        sessions: SessionStore,
        accounts: Accounts,
        tokens: AccessTokens | None,
        public_origin: str,
        note_use: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`note_use` is told the id of each session that opens something. It must not wait."""
        self._api_keys = api_keys
        self._sessions = sessions
        self._accounts = accounts
        self._tokens = tokens
        self._public_origin = public_origin
        self._note_use = note_use

    async def authenticate(self, request: web.BaseRequest) -> Principal:
        """Return the caller. Raises `Unauthorized`, `Forbidden` without the CSRF token, or `ServiceUnavailable`."""
        headers = request.headers
        authorization = headers.getall("Authorization", [])
        api_key = [*headers.getall(CLIENT_HEADER, []), *headers.getall(KEY_HEADER, [])]
        if len(set(authorization)) > 1 or (authorization and api_key):
            raise Unauthorized("Send one credential, not several.")
        if api_key:
            return await self._api_keys.authenticate(headers)
        session = await self.session(request)
        return await self._principal(session)

    async def session(self, request: web.BaseRequest) -> UserSession:
        """Return the session of the access token, else that of the cookie. Raises as `authenticate` does."""
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            return await self._session_of_token(authorization)
        cookie = SessionCookie.of(request.headers) if self._tokens else None
        if cookie is None:
            raise CredentialsMissing(_NO_CREDENTIAL)
        if request.method not in _SAFE_METHODS:
            self._check_origin(request.headers, cookie)
        return await self._opened(cookie.session_id, cookie.secret)

    async def _session_of_token(self, authorization: str) -> UserSession:
        match = _BEARER.fullmatch(authorization)
        if match is None or self._tokens is None:
            raise Unauthorized(_NO_CREDENTIAL)
        return await self._opened(*self._tokens.read(match[1]))

    async def _opened(self, session_id: str, secret: str) -> UserSession:
        session = await self._sessions.find(session_id)
        if session is None or not session.is_opened_by(secret):
            raise Unauthorized(_ENDED)
        return session

    async def _principal(self, session: UserSession) -> Principal:
        rights = await self._accounts.rights_of(session.user_id, session.generation)
        if rights is None:
            raise Unauthorized(_ENDED)
        self._note_use(session.id)
        return Principal(
            f"user:{session.user_id}", rights.role, session.user_id, session.id, performer_id=rights.performer_id
        )

    def _check_origin(self, headers: Mapping[str, str], cookie: SessionCookie) -> None:
        csrf_token = headers.get(CSRF_HEADER, "")
        if headers.get("Origin") != self._public_origin:
            raise Forbidden("A change by cookie must come from this site.", details={"reason": "origin"})
        if not compare_digest(csrf_token.encode(errors="replace"), cookie.csrf_token.encode()):
            raise Forbidden(f"Send the CSRF token in the header {CSRF_HEADER}.", details={"reason": "csrf"})
