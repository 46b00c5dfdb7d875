"""What a provider says of itself, and how it gives tokens: everything that must not be believed."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import get_default_algorithms
from pydantic import SecretStr, ValidationError

from gateway.sign_in.provider import CodeChallenge, IdentityProvider, ProviderSettings
from safevideo_common.auth.jwks import SigningKeysUnavailable
from safevideo_common.auth.tokens import VerifiedToken
from safevideo_common.clock import utc_now
from safevideo_common.errors import SafeVideoError, SsoAuthFailed, SsoUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.tasks import running_task
from safevideo_testkit.eventually import eventually

SECRETS = CodeChallenge("v" * 43, "n")
JWK = get_default_algorithms()["RS256"].to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
JWK["kid"] = "a-key"
Answer = Callable[[web.Request], web.StreamResponse]


class ScriptedProvider:
    """A provider that answers as a test says. `issuer` is its address."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.log = log
        self.document: Answer | None = None
        self.changes: dict[str, Any] = {}
        self.token: Answer = lambda _request: web.json_response({})
        self.forms: list[dict[str, Any]] = []
        self.credentials: list[str | None] = []
        self.fetches = 0
        self.issuer = ""

    def discovery(self) -> dict[str, Any]:
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        whole = {"issuer": self.issuer, **{name: f"{self.issuer}/{name}" for name in names}, **self.changes}
        return {name: value for name, value in whole.items() if value is not None}

    async def discover(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        return self.document(request) if self.document else web.json_response(self.discovery())

    async def exchange(self, request: web.Request) -> web.StreamResponse:
        self.forms.append(dict(await request.post()))
        self.credentials.append(request.headers.get("Authorization"))
        return self.token(request)

    async def keys(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": [JWK]})

    def client(self, http: ClientSession, **settings: Any) -> IdentityProvider:
        known = ProviderSettings(issuer=self.issuer, audience="safevideo", **settings)
        return IdentityProvider("other", known, http, utc_now, self.log)


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def provider(log: FilteringBoundLogger) -> AsyncIterator[ScriptedProvider]:
    scripted = ScriptedProvider(log)
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", scripted.discover)
    app.router.add_post("/token_endpoint", scripted.exchange)
    app.router.add_get("/jwks_uri", scripted.keys)
    async with TestServer(app, shutdown_timeout=1) as server:
        scripted.issuer = str(server.make_url("")).rstrip("/")
        yield scripted


async def test_discovery_is_fetched_once_and_kept(provider: ScriptedProvider, http: ClientSession) -> None:
    client = provider.client(http)
    for _ in range(3):
        assert (await client.metadata()).token_endpoint == f"{provider.issuer}/token_endpoint"
    assert provider.fetches == 1
    assert await client.sign_out_url("https://safevideo.example/") is None  # it names no such address


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": 7},
        {"authorization_endpoint": "https://["},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http:///keys"},
        {"jwks_uri": "http://a..b/keys"},
        {"jwks_uri": f"http://{'a' * 64}.example/keys"},
        {"token_endpoint": "http://1.2.3.4.5/token"},
        {"end_session_endpoint": "data:text/html,x"},
    ],
)
async def test_discovery_document_that_cannot_be_trusted_is_not_used(
    provider: ScriptedProvider, http: ClientSession, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    with pytest.raises(SsoUnavailable):
        await provider.client(http).metadata()


@pytest.mark.parametrize(
    "document",
    [
        lambda _request: web.Response(text="<html>"),
        lambda _request: web.Response(text="[]"),
        lambda _request: web.Response(status=500),
        lambda _request: web.Response(status=302, headers={"Location": "https://evil.example/"}),
        lambda _request: web.Response(body=b" " * (65 * 1024) + b"{}"),
    ],
    ids=["HTML", "list", "500", "redirect", "large"],
)
async def test_discovery_answer_that_is_no_document_is_not_used_and_not_asked_for_again_at_once(
    provider: ScriptedProvider, http: ClientSession, document: Answer
) -> None:
    provider.document = document
    client = provider.client(http)
    for _ in range(5):
        with pytest.raises(SsoUnavailable):
            await client.metadata()
    assert provider.fetches <= 2


@pytest.mark.parametrize(
    ("token", "error"),
    [
        (lambda _request: web.json_response({"error": "invalid_grant"}, status=400), SsoAuthFailed),
        (lambda _request: web.json_response({}), SsoAuthFailed),
        (lambda _request: web.json_response({"id_token": 7}), SsoAuthFailed),
        (lambda _request: web.Response(text="<html>"), SsoAuthFailed),
        (lambda _request: web.Response(status=302, headers={"Location": "https://evil.example/"}), SsoAuthFailed),
        (lambda _request: web.Response(status=503), SsoUnavailable),
        (lambda _request: web.Response(body=b"x" * (65 * 1024)), SsoUnavailable),
        (lambda _request: web.json_response({"id_token": "a.b.c"}), SafeVideoError),
    ],
    ids=["refused", "empty", "number", "HTML", "redirect", "503", "large", "no token"],
)
async def test_exchange_that_gives_no_token_fails_with_its_code(
    provider: ScriptedProvider, http: ClientSession, token: Answer, error: type[SafeVideoError]
) -> None:
    provider.token = token
    with pytest.raises(error) as raised:
        await provider.client(http).exchange("a code", SECRETS, "https://safevideo.example/auth/sso/callback")
    assert "html" not in raised.value.message
    (form,) = provider.forms
    assert (form["code"], form["code_verifier"], form["client_id"]) == ("a code", SECRETS.verifier, "safevideo")


@pytest.mark.parametrize("secret", ["plain", "a:b%2B+c/d=e f", "ä€", "&=?#"])
async def test_client_shows_its_id_and_secret_form_encoded(
    provider: ScriptedProvider, http: ClientSession, secret: str
) -> None:
    """As RFC 6749, §2.3.1 wants it: strict providers decode both after they have split them at the colon."""
    client = IdentityProvider(
        "other",
        ProviderSettings(issuer=provider.issuer, audience="https://us:8443/x", client_secret=SecretStr(secret)),
        http,
        utc_now,
        provider.log,
    )
    with pytest.raises(SsoAuthFailed):
        await client.exchange("a code", SECRETS, "https://safevideo.example/auth/sso/callback")
    (header,) = provider.credentials
    assert header is not None
    assert header.startswith("Basic ")
    client_id, _, shown = b64decode(header.removeprefix("Basic ")).decode("ascii").partition(":")
    assert (unquote_plus(client_id), unquote_plus(shown)) == ("https://us:8443/x", secret)


def test_identity_takes_claims_of_their_type_only(provider: ScriptedProvider, http: ClientSession) -> None:
    client = provider.client(http)

    def identity(**claims: Any) -> Any:
        now = datetime.now(UTC)
        return client.identity_of(VerifiedToken(provider.issuer, "s", now, now, claims))

    good = identity(email="a@b.example", email_verified=True, name="A", preferred_username="a", picture="https://x/y")
    assert (good.email, good.is_email_verified, good.username) == ("a@b.example", True, "a")
    for verified in ("true", 1, [True], None, "yes"):
        assert identity(email="a@b.example", email_verified=verified).is_email_verified is False
    for email in (7, "", "none:1", "merged:2", "a@b\n", "a" * 255 + "@b", ["a@b"], "a@b\x00"):
        odd = identity(email=email, email_verified=True)
        assert (odd.email, odd.is_email_verified) == (None, False)
    for picture in ("javascript:alert(1)", "data:x", "//x", 7):
        assert identity(picture=picture).profile_image is None


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithms": []},
        {"algorithms": ["HS256"]},
        {"algorithms": ["RS256", "none"]},
        {"issuer": "ftp://x"},
        {"jwks_uri": "file:///x"},
        {"issuer": ""},
        {"audience": ""},
        {"surprise": 1},
    ],
)
def test_settings_of_a_provider_that_could_not_be_safe_are_refused(settings: dict[str, Any]) -> None:
    whole = {"issuer": "https://x.example", "audience": "a", **settings}
    with pytest.raises(ValidationError):
        ProviderSettings.model_validate_json(json.dumps(whole))


ADDRESSES_WITHOUT_A_HOST = ["http:///keys", "http://a..b/keys", f"http://{'a' * 64}.example/keys", "http://1.2.3.4.5/"]


@pytest.mark.parametrize("address", ADDRESSES_WITHOUT_A_HOST)
async def test_keys_that_are_known_stay_while_the_discovery_document_has_an_unusable_address(
    provider: ScriptedProvider, http: ClientSession, logs: Path, address: str
) -> None:
    client = provider.client(http)
    provider.changes = {"jwks_uri": address}
    async with running_task(client.keys.run(), "keys") as task:
        with pytest.raises(SigningKeysUnavailable):
            await client.keys.load("a-key")
        provider.changes = {}

        async def is_loaded() -> bool:
            assert not task.done()
            with suppress(SigningKeysUnavailable):
                await client.keys.load("a-key")
            return client.keys.is_loaded

        await eventually(is_loaded)
        assert client.keys.find("a-key") is not None
    provider.log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    assert "SSO_DISCOVERY_FAILED" in (logs / "app.log").read_text()


@pytest.mark.parametrize("address", ADDRESSES_WITHOUT_A_HOST)
@pytest.mark.parametrize("name", ["issuer", "jwks_uri", "auth_url"])
def test_setting_of_an_address_without_a_usable_host_is_refused(name: str, address: str) -> None:
    whole = {"issuer": "https://x.example", "audience": "a", name: address}
    with pytest.raises(ValidationError):
        ProviderSettings.model_validate(whole)
