"""Sign-in in the browser: the authorization code flow with PKCE, `state` and `nonce`, and the page of a failure.

A failure ends on a page that does nothing by itself, so there is no redirect loop. It shows the request id and our own
sentence; nothing that the provider or the address says.
"""

from collections.abc import Sequence
from html import escape
from typing import Final
from urllib.parse import quote

from aiohttp import web
from pydantic import ConfigDict, Field

from gateway.http.endpoint import PUBLIC, Endpoint, Returns, Shape
from gateway.http.query import Query, parse_query
from gateway.http.rate_limits import RateLimitClass
from gateway.http.return_to import HOME, parse_return_to
from gateway.sign_in import cookies
from gateway.sign_in.api import PATH
from gateway.sign_in.pending import PendingSignIn, PendingSignIns
from gateway.sign_in.provider import IdentityProvider
from gateway.sign_in.service import SignedIn, SignInService
from safevideo_common.auth.authentication import RequestAuthenticator
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import (
    IntegrationNotConfigured,
    InvalidSharegramToken,
    SafeVideoError,
    SsoAuthFailed,
    SsoUnavailable,
    Unauthorized,
    UserMappingConflict,
    ValidationFailed,
)
from safevideo_common.web.correlation import CORRELATION

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign-in failed</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font-family:sans-serif;max-width:36em;margin:4em auto;padding:0 1em;line-height:1.5}}</style></head>
<body><h1>Sign-in failed</h1><p>{sentence}</p>
<p>Code <code>{code}</code>, request id <code>{request_id}</code>.</p>
<p><a href="{again}">Sign in again</a></p></body></html>
"""


class LoginQuery(Query):
    """The path that the sign-in leads to, and its provider."""

    return_to: str = HOME
    provider: str = Field(SHAREGRAM, pattern=r"^[a-z0-9_-]{1,64}$")


class CallbackQuery(Query):
    """The parameters that the provider sends back. It may add parameters of its own."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field(min_length=1, max_length=256)
    code: str | None = Field(None, min_length=1, max_length=4096)
    iss: str | None = None
    error: str | None = None


class BrowserSignInApi:
    """The two endpoints that a browser visits."""

    def __init__(
        self, service: SignInService, pending: PendingSignIns, authenticator: RequestAuthenticator, public_url: str
    ) -> None:
        self._service = service
        self._pending = pending
        self._authenticator = authenticator
        self._redirect_uri = f"{public_url}{PATH}/callback"

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        redirect = Returns(None, None, status=302, shape=Shape.REDIRECT)
        login_errors = (ValidationFailed, IntegrationNotConfigured, SsoUnavailable)
        callback_errors = (*login_errors, InvalidSharegramToken, SsoAuthFailed, UserMappingConflict)
        limit = RateLimitClass.AUTHENTICATION
        return [
            Endpoint(
                "GET", f"{PATH}/login", self.login, PUBLIC, redirect, login_errors, rate_limit=limit, query=LoginQuery
            ),
            Endpoint("GET", f"{PATH}/callback", self.callback, PUBLIC, redirect, callback_errors, query=CallbackQuery),
        ]

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the provider. `returnTo` is a path of this site, which it comes back to.

        Raises `ValidationFailed`, before the provider is visited, `IntegrationNotConfigured` or `SsoUnavailable`.
        """
        query = parse_query(LoginQuery, request)
        return_to = parse_return_to(query.return_to)
        try:
            provider = self._service.provider(query.provider)
            sign_in, state, browser_secret = await self._pending.begin(provider.name, return_to)
            url = await provider.sign_in_url(
                state=state,
                secrets=sign_in.secrets,
                redirect_uri=self._redirect_uri,
                prompt_login=cookies.was_signed_out(request.headers),
            )
        except SafeVideoError as error:
            return _failure(request, error, return_to)
        response = _redirect(url)
        cookies.set_pending(response, request.headers, state, browser_secret)
        return response

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Finish a sign-in in the browser: a new session, its cookie, and the way to `returnTo`.

        A callback that was used before signs nobody in. With a session it leads on to the site.
        """
        return_to = HOME
        try:
            query = parse_query(CallbackQuery, request)
            callback = await self._pending.take(query.state, cookies.pending_secret(request.headers, query.state))
            return_to = callback.sign_in.return_to if callback else HOME
            if callback is None or not callback.is_first:
                return await self._lead_on(request, return_to)
            signed_in = await self._finish(request, query, callback.sign_in)
        except SafeVideoError as error:
            return _failure(request, error, return_to)
        response = _redirect(return_to)
        cookies.set_session(response, signed_in.cookie)
        cookies.delete_pending(response, query.state)
        return response

    async def _finish(self, request: web.Request, query: CallbackQuery, sign_in: PendingSignIn) -> SignedIn:
        provider = self._service.provider(sign_in.provider)
        async with self._service.attempt(provider.name):
            began_at = await self._service.sessions.now()
            await _check_issuer(provider, query.iss)
            if query.error is not None or query.code is None:
                raise SsoAuthFailed("The sign-in was cancelled, or the provider refused it.")
            token = await provider.exchange(query.code, sign_in.secrets, self._redirect_uri)
            return await self._service.sign_in(request, provider, token, began_at)

    async def _lead_on(self, request: web.Request, return_to: str) -> web.StreamResponse:
        """Send a browser with a session on to the site: this was Reload, or the Back button."""
        try:
            await self._authenticator.session(request)
        except Unauthorized:
            raise SsoAuthFailed("This sign-in has expired, was used already, or began in another browser.") from None
        return _redirect(return_to)


async def _check_issuer(provider: IdentityProvider, issuer: str | None) -> None:
    """Raise `SsoAuthFailed` if another provider answers than the one that was asked (RFC 9207)."""
    is_required = (await provider.metadata()).sends_issuer
    if issuer != provider.settings.issuer and (issuer is not None or is_required):
        raise SsoAuthFailed("Another provider answered than the one that was asked.")


def _redirect(url: str) -> web.Response:
    return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})


def _failure(request: web.Request, error: SafeVideoError, return_to: str) -> web.Response:
    """Return the page of a failure. A client that does not take HTML gets the error body instead."""
    if "text/html" not in request.headers.get("Accept", ""):
        raise error
    page = _PAGE.format(
        sentence=escape(error.message),
        code=escape(error.code),
        request_id=escape(request[CORRELATION].request_id),
        again=escape(f"{PATH}/login?returnTo={quote(return_to, safe='/')}"),
    )
    headers = {
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(text=page, status=error.status, content_type="text/html", headers=headers)
