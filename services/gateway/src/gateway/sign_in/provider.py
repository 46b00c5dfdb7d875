"""An OpenID provider as a client sees it: discovery, the address of a sign-in, and the exchange of a code.

Everything that a provider answers is bounded in time and bytes, and no redirect is followed. A fetch is shared by all
who wait for it, and a failed one is not repeated for `RETRY_SECONDS`.
"""

import asyncio
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from time import monotonic
from typing import Final
from urllib.parse import quote_plus

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from yarl import URL

from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.jwks import ALGORITHMS, JwksCache, http_fetch
from safevideo_common.auth.tokens import TokenIssuer, TokenKind, TokenVerifier, VerifiedToken
from safevideo_common.clock import Clock
from safevideo_common.errors import SsoAuthFailed, SsoUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.users.store import Identity

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
DISCOVERY_SECONDS: Final = 5.0
EXCHANGE_SECONDS: Final = 10.0
METADATA_SECONDS: Final = 3600.0
"""The age at which the discovery document is fetched again. If that fails, the old one stays in use."""
RETRY_SECONDS: Final = 1.0
MAX_ANSWER_BYTES: Final = 64 * 1024
SCOPE: Final = "openid profile email"
_MAX_TEXT: Final = 255
_MAX_URL: Final = 2048


class ProviderSettings(BaseModel):
    """An OpenID provider. Only `issuer` and `audience` are required: discovery knows the addresses."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks_uri: str = ""
    auth_url: str = ""
    client_secret: SecretStr | None = None
    algorithms: frozenset[str] = frozenset({"RS256"})
    links_by_email: bool = False
    role_claim: str = ""
    """The claim that names roles or groups: its name, or the path to it with dots."""
    roles_by_claim: Mapping[str, Role] = {}
    """The role that each value of the claim gives. All other values give none."""

    def model_post_init(self, _context: object) -> None:
        """Raise `ValueError` for an algorithm that cannot be allowed, or an address that is not http."""
        if not self.algorithms or not self.algorithms <= ALGORITHMS:
            raise ValueError(f"algorithms must be some of {', '.join(sorted(ALGORITHMS))}")
        for address in filter(None, (self.issuer, self.jwks_uri, self.auth_url)):
            if _scheme_of(address) not in {"http", "https"}:
                raise ValueError("addresses must begin with https:// or http:// and name a host")


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The addresses of a provider (OpenID Connect Discovery 1.0)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None
    sends_issuer: bool
    """The answer of a sign-in has the parameter `iss` (RFC 9207)."""


@dataclass(frozen=True, slots=True)
class CodeChallenge:
    """The secrets of one sign-in: the PKCE verifier and the nonce."""

    verifier: str
    nonce: str

    @property
    def challenge(self) -> str:
        """The PKCE challenge, S256 (RFC 7636)."""
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


class IdentityProvider:
    """A provider as we talk to it. `keys.run` must run beside it."""

    def __init__(
        self, name: str, settings: ProviderSettings, http: ClientSession, clock: Clock, logger: FilteringBoundLogger
    ) -> None:
        self.name: Final = name
        self.settings: Final = settings
        self._http = http
        self._logger = logger
        self.keys: Final = JwksCache(self._fetch_keys, settings.algorithms, logger)
        issuer = TokenIssuer(settings.issuer, settings.audience, settings.algorithms)
        self.tokens: Final = TokenVerifier(issuer, self.keys, clock)
        self._metadata: ProviderMetadata | None = None
        self._fetch_after = 0.0
        self._fetching = asyncio.Lock()

    async def metadata(self) -> ProviderMetadata:
        """Return the addresses. Raises `SsoUnavailable` if they were never fetched and cannot be now."""
        if monotonic() >= self._fetch_after:
            async with self._fetching:
                if monotonic() >= self._fetch_after:
                    await self._discover()
        if self._metadata is None:
            raise SsoUnavailable("The identity provider does not answer.", retry_after=5)
        return self._metadata

    async def sign_in_url(self, *, state: str, secrets: CodeChallenge, redirect_uri: str, prompt_login: bool) -> str:
        """Return where the browser signs in. Raises `SsoUnavailable`."""
        address = self.settings.auth_url or (await self.metadata()).authorization_endpoint
        parameters = {
            "response_type": "code",
            "client_id": self.settings.audience,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": state,
            "nonce": secrets.nonce,
            "code_challenge": secrets.challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(address).update_query(parameters | ({"prompt": "login"} if prompt_login else {})))

    async def sign_out_url(self, return_to: str) -> str | None:
        """Return where the browser ends the provider's session too, or None if the provider names no such address."""
        try:
            address = (await self.metadata()).end_session_endpoint
        except SsoUnavailable:
            return None
        parameters = {"client_id": self.settings.audience, "post_logout_redirect_uri": return_to}
        return address and str(URL(address).update_query(parameters))

    async def exchange(self, code: str, secrets: CodeChallenge, redirect_uri: str) -> VerifiedToken:
        """Return the ID token that the provider gives for `code`.

        Raises `SsoAuthFailed` if it refuses the code, `SsoUnavailable` if it does not answer, or
        `InvalidSharegramToken` for a token that does not hold.
        """
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self.settings.audience,
            "code_verifier": secrets.verifier,
        }
        secret = self.settings.client_secret
        headers = _basic_auth(self.settings.audience, secret.get_secret_value()) if secret else None
        try:
            timeout = ClientTimeout(total=EXCHANGE_SECONDS)
            async with self._http.post(
                metadata.token_endpoint, data=form, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                status, answer = response.status, await _read_json(response)
        except (ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._logger.warning("Code not exchanged", code="SSO_AUTH_FAILED", error=type(error).__name__)
            raise SsoUnavailable("The identity provider does not answer.", retry_after=5) from None
        if status >= 500:
            raise SsoUnavailable("The identity provider does not answer.", retry_after=5)
        id_token = answer.get("id_token")
        if status != 200 or not isinstance(id_token, str):
            raise SsoAuthFailed("The identity provider refused this sign-in.")
        token = await self.tokens.verify(id_token, TokenKind.ID, nonce=secrets.nonce)
        _check_access_token_hash(token, answer.get("access_token"))
        return token

    def identity_of(self, token: VerifiedToken) -> Identity:
        """Return the identity that a token proves. Claims that are not of their type count as absent."""
        claims = token.claims
        email, picture = _text(claims, "email"), _text(claims, "picture", _MAX_URL)
        if email is None or "@" not in email:
            email = None
        return Identity(
            self.name,
            token.issuer,
            token.subject or "",
            email,
            email is not None and claims.get("email_verified") is True,
            _text(claims, "preferred_username"),
            _text(claims, "name"),
            picture if picture and picture.startswith(("https://", "http://")) else None,
            _claimed_role(claims, self.settings),
        )

    async def _fetch_keys(self) -> bytes:
        try:
            address = self.settings.jwks_uri or (await self.metadata()).jwks_uri
        except SsoUnavailable as error:
            raise ClientError(error.message) from None
        return await http_fetch(self._http, address)()

    async def _discover(self) -> None:
        try:
            async with _answer_of(self._http, self.settings.issuer.rstrip("/") + DISCOVERY_PATH) as response:
                self._metadata = _parse_metadata(await _read_json(response), self.settings.issuer)
            self._fetch_after = monotonic() + METADATA_SECONDS
        except (ClientError, OSError, ValueError) as error:
            self._fetch_after = monotonic() + RETRY_SECONDS
            reason = str(error) if isinstance(error, _MetadataRejected) else type(error).__name__
            self._logger.warning("Discovery failed", code="SSO_DISCOVERY_FAILED", provider=self.name, reason=reason)


class _MetadataRejected(ValueError):
    """The discovery document cannot be trusted; the message says why."""


@asynccontextmanager
async def _answer_of(http: ClientSession, url: str) -> AsyncIterator[ClientResponse]:
    async with http.get(url, timeout=ClientTimeout(total=DISCOVERY_SECONDS), allow_redirects=False) as response:
        if response.status != 200:
            raise _MetadataRejected(f"its status is {response.status}")
        yield response


async def _read_json(response: ClientResponse) -> Mapping[str, object]:
    document = b""
    async for chunk in response.content.iter_chunked(16 * 1024):
        document += chunk
        if len(document) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too large")
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {}


def _parse_metadata(document: Mapping[str, object], issuer: str) -> ProviderMetadata:
    if document.get("issuer") != issuer:
        raise _MetadataRejected("it is of another issuer")
    addresses: dict[str, str] = {}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"):
        address = document.get(name)
        if address is None and name == "end_session_endpoint":
            continue
        # An issuer with TLS must not send browsers and codes to an address without.
        if not isinstance(address, str) or _scheme_of(address) not in {"https", _scheme_of(issuer)}:
            raise _MetadataRejected(f"its {name} is missing, or not an address")
        addresses[name] = str(URL(address))
    return ProviderMetadata(
        addresses["authorization_endpoint"],
        addresses["token_endpoint"],
        addresses["jwks_uri"],
        addresses.get("end_session_endpoint"),
        document.get("authorization_response_iss_parameter_supported") is True,
    )


def _scheme_of(address: str) -> str:
    """Return the scheme of an address that a client can connect to; an empty text for any other."""
    try:
        url = URL(address)
        host = (url.host or "").encode("idna").decode()  # as the resolver does: it raises for `a..b`
        if host.replace(".", "").isdigit():
            ip_address(host)
    except ValueError:
        return ""
    return url.scheme if host else ""


def _basic_auth(client_id: str, secret: str) -> dict[str, str]:
    """Return the header of a client's credentials, both form-encoded (RFC 6749, §2.3.1): they may have a colon."""
    credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
    return {"Authorization": f"Basic {b64encode(credentials).decode()}"}


def _check_access_token_hash(token: VerifiedToken, access_token: object) -> None:
    """Raise `SsoAuthFailed` if the ID token came with another access token (OpenID Connect Core, §3.1.3.8)."""
    expected = token.claims.get("at_hash")
    if expected is None:
        return
    half = sha256(access_token.encode(errors="replace")).digest()[:16] if isinstance(access_token, str) else b""
    actual = urlsafe_b64encode(half).rstrip(b"=")
    if not isinstance(expected, str) or not hmac.compare_digest(expected.encode(errors="replace"), actual):
        raise SsoAuthFailed("The identity provider's tokens do not belong together.")


def _claimed_role(claims: Mapping[str, object], settings: ProviderSettings) -> Role | None:
    """Return the highest role that the claim gives by the settings, or None. Values that are no text give none."""
    if not settings.role_claim:
        return None
    value: object = claims.get(settings.role_claim)
    if value is None:
        value = claims
        for name in settings.role_claim.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    roles = [
        settings.roles_by_claim[each] for each in values if isinstance(each, str) and each in settings.roles_by_claim
    ]
    return max(roles, key=tuple(Role).index, default=None)


def _text(claims: Mapping[str, object], name: str, longest: int = _MAX_TEXT) -> str | None:
    value = claims.get(name)
    is_text = isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()
    return value.strip() or None if is_text and isinstance(value, str) else None
