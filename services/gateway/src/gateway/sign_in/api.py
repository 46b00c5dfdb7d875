"""`/auth/sso`: sign-in by a provider's token, sessions, and sign-out (contract, §3)."""

from collections.abc import Sequence
from math import ceil
from typing import Final, TypedDict
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import Field

from gateway.http.body import read_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ANY_ROLE, PUBLIC, Endpoint, Returns
from gateway.http.guard import CLIENT_ADDRESS
from gateway.http.query import Query, parse_query
from gateway.http.rate_limits import RateLimitClass
from gateway.sign_in.cookies import delete_session, remember_sign_out
from gateway.sign_in.provider import IdentityProvider
from gateway.sign_in.service import SignedIn, SignInService
from safevideo_common.audit.store import Caller
from safevideo_common.auth.authentication import Accounts, SessionCookie
from safevideo_common.auth.jwks import SigningKeysUnavailable
from safevideo_common.auth.principal import PRINCIPAL, Principal
from safevideo_common.auth.sessions import LIFETIME
from safevideo_common.auth.tokens import LEEWAY_SECONDS, TokenKind, VerifiedToken, unverified_issuer
from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import (
    IntegrationNotConfigured,
    InvalidSharegramToken,
    SsoAuthFailed,
    SsoUnavailable,
    UserMappingConflict,
    ValidationFailed,
)
from safevideo_common.web.correlation import CORRELATION
from safevideo_common.web.responses import success

PROVIDER_HEADER: Final = "X-SSO-Provider"
PATH: Final = "/auth/sso"
_MAX_FORM_BYTES: Final = 16 * 1024


class UserDocument(TypedDict):
    """A person who signed in."""

    id: int
    email: str | None
    username: str | None
    displayName: str | None
    profileImage: str | None
    role: str
    isEmailVerified: bool
    ssoProvider: str


class SignedInDocument(TypedDict):
    """A new session, and the access token that opens it."""

    token: str
    sessionId: str
    user: UserDocument
    expiresIn: int


class SessionDocument(TypedDict):
    """A session. Everything but `isValid` is null for one that does not exist, or has ended."""

    userId: int | None
    provider: str | None
    createdAt: TimestampText | None
    expiresAt: TimestampText | None
    isValid: bool


class SignedOutDocument(TypedDict):
    """The result of a sign-out."""

    sessionsEnded: int
    providerLogoutUrl: str | None


class LogoutReceivedDocument(TypedDict):
    """The result of a logout token."""

    sessionsEnded: int


class ProviderStatusDocument(TypedDict):
    """A provider, and whether people can sign in with it."""

    enabled: bool
    configured: bool


class IntegrationStatusDocument(TypedDict):
    """The providers by name."""

    providers: dict[str, ProviderStatusDocument]


_USER: Final[UserDocument] = {
    "id": 123,
    "email": "jane@example.com",
    "username": "jane",
    "displayName": "Jane",
    "profileImage": None,
    "role": "performer",
    "isEmailVerified": True,
    "ssoProvider": "sharegram",
}
_SIGNED_IN: Final[SignedInDocument] = {
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl",
    "sessionId": "q3Jc0qPpXb6vN9wTqzWm8C2dYxL4sHkR",
    "user": _USER,
    "expiresIn": 86400,
}
_SESSION: Final[SessionDocument] = {
    "userId": 123,
    "provider": "sharegram",
    "createdAt": "2026-11-24T20:58:25.123Z",
    "expiresAt": "2026-11-25T20:58:25.123Z",
    "isValid": True,
}
_NO_SESSION: Final[SessionDocument] = {
    "userId": None,
    "provider": None,
    "createdAt": None,
    "expiresAt": None,
    "isValid": False,
}
_SIGNED_OUT: Final[SignedOutDocument] = {
    "sessionsEnded": 1,
    "providerLogoutUrl": "https://sharegram.example/oauth/logout?client_id=safevideo",
}
_STATUS: Final[IntegrationStatusDocument] = {"providers": {"sharegram": {"enabled": True, "configured": True}}}


class SessionQuery(Query):
    """The session to look at."""

    session_id: str = Field(min_length=1, max_length=128)


_LOGOUT_FORM: Final = {"properties": {"logout_token": {"type": "string"}}, "required": ["logout_token"]}


class SignInApi:
    """The endpoints of sign-in that answer with JSON."""

    def __init__(
        self,
        service: SignInService,
        accounts: Accounts,
        public_url: str,
        clock: Clock,
    ) -> None:
        self._service = service
        self._sessions = service.sessions
        self._accounts = accounts
        self._public_url = public_url
        self._clock = clock

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        sign_in_errors = (
            InvalidSharegramToken, SsoAuthFailed, SsoUnavailable, IntegrationNotConfigured, UserMappingConflict,
            ValidationFailed,
        )  # fmt: skip
        session = Returns(SessionDocument, _SESSION)
        signed_out = Returns(SignedOutDocument, _SIGNED_OUT)
        received = Returns(LogoutReceivedDocument, {"sessionsEnded": 1})
        status = Returns(IntegrationStatusDocument, _STATUS)
        return [
            Endpoint(
                "POST", f"{PATH}/unified-login", self.unified_login, PUBLIC, Returns(SignedInDocument, _SIGNED_IN),
                sign_in_errors, rate_limit=RateLimitClass.AUTHENTICATION, takes_provider_token=True,
                headers={PROVIDER_HEADER: "The name of the provider; Sharegram without it."},
            ),
            Endpoint(
                "GET", f"{PATH}/session/verify", self.verify, PUBLIC, session, rate_limit=None, query=SessionQuery,
            ),
            Endpoint("POST", f"{PATH}/logout", self.logout, ANY_ROLE, signed_out, (ValidationFailed,)),
            Endpoint("POST", f"{PATH}/logout-all", self.logout_all, ANY_ROLE, signed_out, (ValidationFailed,)),
            Endpoint(
                "POST", f"{PATH}/backchannel-logout", self.backchannel_logout, PUBLIC, received,
                (ValidationFailed, SsoUnavailable), rate_limit=None, form=_LOGOUT_FORM,
                form_type="application/x-www-form-urlencoded",
            ),
            Endpoint("GET", f"{PATH}/integration-status", self.integration_status, PUBLIC, status),
        ]  # fmt: skip

    async def unified_login(self, request: web.Request) -> web.Response:
        """Sign in with a token of the provider that the header `X-SSO-Provider` names.

        The header `Authorization` has the token. Raises `InvalidSharegramToken`, `UserMappingConflict`,
        `SsoAuthFailed`, `SsoUnavailable`, `IntegrationNotConfigured`, or `ValidationFailed` for an unknown provider.
        """
        provider = self._service.provider(request.headers.get(PROVIDER_HEADER, SHAREGRAM))
        async with self._service.attempt(provider.name):
            token = await provider.tokens.verify(_bearer(request), TokenKind.ACCESS)
            began_at = await self._sessions.now()
            signed_in = await self._service.sign_in(request, provider, token, began_at)
        document: SignedInDocument = {
            "token": self._service.access_token(signed_in),
            "sessionId": signed_in.session.id,
            "user": _user_document(signed_in),
            "expiresIn": int(LIFETIME.total_seconds()),
        }
        return _private(success(document))

    async def verify(self, request: web.Request) -> web.Response:
        """Return whether a session is valid. Its id opens nothing."""
        session = await self._sessions.find(parse_query(SessionQuery, request).session_id)
        if session is None or await self._accounts.rights_of(session.user_id, session.generation) is None:
            return _private(success(_NO_SESSION))
        document: SessionDocument = {
            "userId": session.user_id,
            "provider": session.provider,
            "createdAt": rfc3339(session.created_at),
            "expiresAt": rfc3339(session.expires_at),
            "isValid": True,
        }
        return _private(success(document))

    async def logout(self, request: web.Request) -> web.Response:
        """End the session of this request. The browser ends the provider's session too at `providerLogoutUrl`."""
        user_id, session_id = _person(request)
        session = await self._sessions.find(session_id)
        provider = session.provider if session else SHAREGRAM
        await self._service.audit.record(caller_of(request), {"provider": provider, "sessions": 1})
        await self._sessions.end(user_id, session_id)
        return await self._signed_out(request, provider, 1)

    async def logout_all(self, request: web.Request) -> web.Response:
        """End every session of this user. They end with the commit of its entry in the audit log, without Redis too."""
        user_id, session_id = _person(request)
        session = await self._sessions.find(session_id)
        provider = session.provider if session else SHAREGRAM
        await self._service.end_all(user_id, caller_of(request), {"provider": provider})
        ended = await self._sessions.end_user(user_id)
        return await self._signed_out(request, provider, ended)

    async def backchannel_logout(self, request: web.Request) -> web.Response:
        """End the sessions that a provider's logout token names (OpenID Connect Back-Channel Logout 1.0).

        The body is a form with `logout_token`. A token that names no session of ours is fine. Raises
        `ValidationFailed` for a token that does not hold or was used before, so that the provider does not repeat it.
        """
        provider, token = await self._logout_token(request)
        sid = token.claims.get("sid")
        assert token.issued_at is not None  # the token's kind requires it
        caller = Caller(
            f"provider:{provider.name}", "provider", request[CLIENT_ADDRESS], request[CORRELATION].request_id
        )
        await self._service.audit.record(caller, {"provider": provider.name, "by": "sid" if sid else "sub"})
        valid_for = (token.expires_at - self._clock()).total_seconds() + LEEWAY_SECONDS
        ended = await self._sessions.end_by_logout_token(
            token.issuer,
            jti=str(token.claims["jti"]),
            subject=token.subject,
            sid=sid if isinstance(sid, str) else None,
            issued_at=token.issued_at,
            valid_seconds=ceil(valid_for),
        )
        if ended is None:
            raise _invalid_logout_token("replayed")
        return _private(success({"sessionsEnded": ended}))

    async def integration_status(self, _request: web.Request) -> web.Response:
        """Return the providers that people can sign in with."""
        names = {SHAREGRAM, *self._service.providers}
        providers = {
            name: {"enabled": self._service.is_enabled(name), "configured": name in self._service.providers}
            for name in sorted(names)
        }
        return success({"providers": providers})

    async def _logout_token(self, request: web.Request) -> tuple[IdentityProvider, VerifiedToken]:
        if request.content_type != "application/x-www-form-urlencoded":
            raise ValidationFailed("The body is not a form.", details={"body": "application/x-www-form-urlencoded"})
        raw = await read_body(request)
        form = parse_qsl(raw.decode("latin-1")) if len(raw) <= _MAX_FORM_BYTES else []
        tokens = [value for name, value in form if name == "logout_token"]
        if len(tokens) != 1:
            raise ValidationFailed("The form has no logout token.", details={"logout_token": "is missing or repeated"})
        issuer, reason, is_checked = unverified_issuer(tokens[0]), "issuer", True
        for provider in self._service.providers.values():
            if provider.settings.issuer != issuer:
                continue
            try:
                return provider, await provider.tokens.verify(tokens[0], TokenKind.LOGOUT)
            except InvalidSharegramToken as error:  # another client of this issuer may be the one
                refused = str((error.details or {}).get("reason"))
                reason = refused if reason in {"issuer", "audience"} else reason
            except SigningKeysUnavailable:
                is_checked = False
        if is_checked:
            raise _invalid_logout_token(reason)
        raise SsoUnavailable("Tokens cannot be checked now.", retry_after=5)

    async def _signed_out(self, request: web.Request, provider_name: str, ended: int) -> web.Response:
        provider = self._service.providers.get(provider_name)
        url = await provider.sign_out_url(f"{self._public_url}/") if provider else None
        response = _private(success({"sessionsEnded": ended, "providerLogoutUrl": url}))
        if SessionCookie.of(request.headers) is not None:
            delete_session(response)
            if url is None:
                remember_sign_out(response)
        return response


def _bearer(request: web.Request) -> str:
    values = request.headers.getall("Authorization", [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token:
        details = {"reason": "malformed" if values else "missing"}
        raise InvalidSharegramToken("Invalid token: send it as Authorization: Bearer <token>.", details=details)
    return token.strip(" ")


def _person(request: web.Request) -> tuple[int, str]:
    """Return user and session of the caller. Raises `ValidationFailed` for an API key: it has no session."""
    principal: Principal = request[PRINCIPAL]
    if principal.user_id is None or principal.session_id is None:
        raise ValidationFailed("An API key has no session to end.", details={"credential": "must be of a person"})
    return principal.user_id, principal.session_id


def _invalid_logout_token(reason: str) -> ValidationFailed:
    return ValidationFailed("Invalid logout token.", details={"reason": reason})


def _user_document(signed_in: SignedIn) -> UserDocument:
    user = signed_in.account
    return {
        "id": user.id,
        "email": user.email,
        "username": user.username,
        "displayName": user.display_name,
        "profileImage": user.profile_image,
        "role": user.role,
        "isEmailVerified": user.is_email_verified is True,
        "ssoProvider": signed_in.session.provider,
    }


def _private(response: web.Response) -> web.Response:
    response.headers["Cache-Control"] = "no-store"
    return response
