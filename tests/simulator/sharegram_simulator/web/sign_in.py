"""Sharegram's sign-in: the authorization code flow with PKCE (RFC 6749, RFC 7636). Nobody is asked for a password."""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl
from uuid import uuid4

from aiohttp import web
from pydantic import AfterValidator, BaseModel, Field, HttpUrl, TypeAdapter
from yarl import URL

from sharegram_simulator.authorization import Grant, Grants
from sharegram_simulator.clock import utc_now
from sharegram_simulator.errors import Invalid
from sharegram_simulator.performers import Performer, Performers
from sharegram_simulator.tokens import LIFETIME_SECONDS, TokenIssuer, TokenOrder
from sharegram_simulator.web.answers import json_answer, read_body, read_query

SHOWN: Final = 50
"""Performers on the page that asks who signs in."""

Text = Annotated[str, Field(min_length=1, max_length=2000)]


def _absolute(address: str) -> str:
    TypeAdapter(HttpUrl).validate_python(address)
    return address


RedirectUri = Annotated[Text, AfterValidator(_absolute)]
"""Kept to the letter: the client brings it a second time, and the two are compared."""
PkceText = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$")]


class AuthorizeQuery(BaseModel):
    """The parameters from the browser. `login_hint` chooses the performer who signs in."""

    response_type: Literal["code"]
    client_id: Text
    redirect_uri: RedirectUri
    state: Text
    code_challenge: PkceText
    code_challenge_method: Literal["S256"]
    nonce: Text | None = None
    login_hint: Text | None = None


class SignOutQuery(BaseModel):
    """The parameters of a sign-out that the client began."""

    client_id: Text
    post_logout_redirect_uri: RedirectUri


class TokenForm(BaseModel):
    """The parameters of a code exchange."""

    grant_type: Literal["authorization_code"]
    code: Text
    client_id: Text
    redirect_uri: Text
    code_verifier: PkceText


class SignIn:
    """An OpenID provider with one client, whose users are the performers."""

    def __init__(
        self, issuer: str, client_id: str, performers: Performers, tokens: TokenIssuer, grants: Grants
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._performers = performers
        self._tokens = tokens
        self._grants = grants

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/oauth/authorize", self.authorize),
            web.post("/oauth/token", self.exchange),
            web.get("/oauth/logout", self.sign_out),
        ]

    async def authorize(self, request: web.Request) -> web.Response:
        """Approve at once, and send the browser back with a code. Of several performers, ask which."""
        query = read_query(request, AuthorizeQuery)
        if query.client_id != self._client_id:
            raise Invalid("No such client.", details={"client_id": "unknown"})
        candidates = self._candidates(query.login_hint)
        if len(candidates) > 1:
            return _chooser(request.rel_url, candidates)
        if not candidates:
            return self._back(query, {"error": "access_denied", "error_description": "there is no such performer"})
        return self._back(query, {"code": self._grants.open(_grant(query, candidates[0]), utc_now())})

    async def exchange(self, request: web.Request) -> web.Response:
        """A code for tokens: once, in time, with its verifier. Failures are in OAuth's own shape."""
        try:
            form = TokenForm.model_validate(dict(parse_qsl((await read_body(request)).decode())))
        except ValueError:
            return json_answer({"error": "invalid_request"}, 400)
        grant = self._grants.take(form.code, utc_now())
        if grant is None or not grant.answers(form.client_id, form.redirect_uri, form.code_verifier):
            return json_answer({"error": "invalid_grant"}, 400)
        response = json_answer(await self._tokens_of(grant))
        response.headers["Cache-Control"] = "no-store"
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the provider's session, and send the browser back (OpenID Connect RP-Initiated Logout 1.0)."""
        query = read_query(request, SignOutQuery)
        if query.client_id != self._client_id:
            raise Invalid("No such client.", details={"client_id": "unknown"})
        return web.Response(status=302, headers={"Location": query.post_logout_redirect_uri})

    def _back(self, query: AuthorizeQuery, parameters: Mapping[str, str]) -> web.Response:
        """Send the browser back, and say who does it (RFC 9207)."""
        answer = {**parameters, "state": query.state, "iss": self._issuer}
        return web.Response(status=302, headers={"Location": str(URL(query.redirect_uri).extend_query(answer))})

    def _candidates(self, login_hint: str | None) -> list[Performer]:
        if login_hint is None:
            return list(self._performers.page(None, None, SHOWN))
        found = self._performers.find(login_hint)
        return [] if found is None else [found]

    async def _tokens_of(self, grant: Grant) -> dict[str, object]:
        claims = _claims(grant, self._performers.find(grant.subject))
        access_token = await self._tokens.issue(TokenOrder(claims, {"typ": "at+jwt"}))
        of_sign_in = {"nonce": grant.nonce, "at_hash": _half_hash(access_token)}
        return {
            "access_token": access_token,
            "id_token": await self._tokens.issue(TokenOrder(claims | of_sign_in)),
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
        }


def _grant(query: AuthorizeQuery, performer: Performer) -> Grant:
    return Grant(performer.performer_id, query.client_id, query.redirect_uri, query.code_challenge, query.nonce)


def _claims(grant: Grant, performer: Performer | None) -> dict[str, object]:
    profile: Mapping[str, object] = {} if performer is None else performer.profile
    return {
        "sub": grant.subject,
        "sid": uuid4().hex,
        "email": profile.get("email"),
        "email_verified": True if profile.get("email") else None,
        "name": profile.get("displayName"),
        "preferred_username": profile.get("username"),
        "picture": profile.get("profileImage"),
    }


def _half_hash(token: str) -> str:
    """The `at_hash` of RS256 and ES256 (OpenID Connect Core, §3.1.3.6)."""
    return urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


def _chooser(asked: URL, candidates: list[Performer]) -> web.Response:
    links = "".join(
        f'<li><a href="{escape(str(asked.update_query(login_hint=one.performer_id)))}">'
        f"{escape(str(one.profile['displayName']))} ({escape(one.performer_id)})</a></li>"
        for one in candidates
    )
    page = f"<!doctype html><title>Sharegram</title><h1>Who signs in?</h1><ul>{links}</ul>"
    return web.Response(text=page, content_type="text/html")
