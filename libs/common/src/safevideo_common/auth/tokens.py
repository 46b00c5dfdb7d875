"""Verification of the tokens that an identity provider signs (JWT, RFC 7519; advice of RFC 8725).

A token is refused before its signature is checked unless all of this holds:

- It has at most 8 KiB, and three parts in canonical base64url.
- Its header names an allowed asymmetric algorithm and a `kid`, and asks for nothing that we do not know (`crit`).
- That key is of the provider, and made for that very algorithm.

The claims are read only after the signature holds. An access, an ID and a logout token never pass as one another.
"""

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn, TypeGuard

from safevideo_common.auth.jwks import MAX_KID_LENGTH, JwksCache, VerificationKey
from safevideo_common.clock import Clock, rfc3339
from safevideo_common.errors import InvalidSharegramToken

MAX_TOKEN_BYTES: Final = 8 * 1024
LEEWAY_SECONDS: Final = 60
MAX_ID_LENGTH: Final = 255
"""Of a subject (OpenID Connect Core, §2), and of a `sid` and `jti` too."""
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

_CANONICAL: Final = re.compile(
    r"(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]|[A-Za-z0-9_-][AQgw])?", re.ASCII
)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_KEYS_IN_HEADER: Final = frozenset({"jwk", "jku", "x5u", "x5c"})
_MARKS_OF_ID_TOKENS: Final = frozenset({"nonce", "at_hash", "c_hash"})


class TokenKind(StrEnum):
    """The use of a token."""

    ACCESS = "access"
    ID = "id"
    LOGOUT = "logout"


_TYPES: Final[Mapping[TokenKind, frozenset[str]]] = {
    TokenKind.ACCESS: frozenset({"", "jwt", "at+jwt"}),
    TokenKind.ID: frozenset({"", "jwt"}),
    TokenKind.LOGOUT: frozenset({"", "jwt", "logout+jwt"}),
}


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """The issuer of tokens for us: what they must claim, and how they may be signed."""

    issuer: str
    audience: str
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature and claims hold. `issued_at` is None only for an access or ID token without `iat`."""

    issuer: str
    subject: str | None
    """Never None, except in a logout token that names a `sid`."""
    issued_at: datetime | None
    expires_at: datetime
    claims: Mapping[str, object]


class _Header(NamedTuple):
    algorithm: str
    kid: str
    type: str


class TokenVerifier:
    """Checks the tokens of one issuer."""

    def __init__(self, issuer: TokenIssuer, keys: JwksCache, clock: Clock) -> None:
        self._issuer = issuer
        self._keys = keys
        self._clock = clock

    async def verify(self, token: str, kind: TokenKind, *, nonce: str | None = None) -> VerifiedToken:
        """Return the token's claims. An ID token must have the `nonce` that its sign-in was begun with.

        Raises `InvalidSharegramToken`, whose `details.reason` names the check, or `SigningKeysUnavailable`.
        """
        if len(token) > MAX_TOKEN_BYTES:
            _refuse("too_large", "it is larger than 8 KiB")
        parts = token.split(".")
        if len(parts) != 3 or not all(map(_CANONICAL.fullmatch, parts)):
            _refuse("malformed", "it is not a signed JWT")
        header = _parse_header(parts[0])
        if header.algorithm not in self._issuer.algorithms:
            _refuse("algorithm", "its algorithm is not allowed")
        if header.type not in _TYPES[kind]:
            _refuse(
                "type", f"it is not an {kind} token" if kind is not TokenKind.LOGOUT else "it is not a logout token"
            )
        key = self._keys.find(header.kid) or await self._keys.load(header.kid)
        payload = _verified_payload(token, parts, header, key)
        return self._checked(_parse_object(payload), kind, nonce)

    def _checked(self, claims: dict[str, object], kind: TokenKind, nonce: str | None) -> VerifiedToken:
        issuer, subject = claims.get("iss"), claims.get("sub")
        if issuer != self._issuer.issuer:
            _refuse("issuer", "it is of another issuer")
        self._check_audience(claims, kind)
        issued_at, expires_at = self._check_times(claims)
        if subject is not None and not _is_id(subject):
            _refuse("subject", "its subject is malformed")
        sid = claims.get("sid")
        if isinstance(sid, str) and sid and not _is_id(sid):
            _refuse("sid", "its sid is malformed")
        _KIND_CHECKS[kind](claims, nonce)
        return VerifiedToken(self._issuer.issuer, subject, issued_at, expires_at, claims)

    def _check_audience(self, claims: Mapping[str, object], kind: TokenKind) -> None:
        audience, ours = claims.get("aud"), self._issuer.audience
        is_list = isinstance(audience, list) and all(isinstance(each, str) for each in audience)
        if audience != ours and not (is_list and ours in audience):  # type: ignore[operator]  # a list then
            _refuse("audience", "it is for another audience")
        if kind is TokenKind.ID:
            # A token for several clients says which of them asked for it (OpenID Connect Core, §3.1.3.7).
            is_for_others = is_list and len(audience) > 1  # type: ignore[arg-type]  # a list then
            if claims.get("azp", None if is_for_others else ours) != ours:
                _refuse("audience", "another client asked for it")

    def _check_times(self, claims: Mapping[str, object]) -> tuple[datetime | None, datetime]:
        now = self._clock()
        seconds = now.timestamp()
        expires, issued, valid_from = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
        if expires is None:
            _refuse("expiry", "it has no expiry")
        if expires <= seconds - LEEWAY_SECONDS:
            _refuse("expired", "it has expired", now)
        if issued is not None and issued > seconds + LEEWAY_SECONDS:
            _refuse("issued_in_future", "it was issued in the future", now)
        if valid_from is not None and valid_from > seconds + LEEWAY_SECONDS:
            _refuse("not_yet_valid", "it is not valid yet", now)
        return None if issued is None else datetime.fromtimestamp(issued, UTC), datetime.fromtimestamp(expires, UTC)


def unverified_issuer(token: str) -> str | None:
    """Return what a token says of its issuer, to choose who verifies it. It proves nothing."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not _CANONICAL.fullmatch(parts[1]):
        return None
    try:
        issuer = _parse_object(_decode(parts[1])).get("iss")
    except InvalidSharegramToken:
        return None
    return issuer if isinstance(issuer, str) else None


@lru_cache(maxsize=256)  # all tokens of a key begin with the same header
def _parse_header(part: str) -> _Header:
    header = _parse_object(_decode(part))
    if "crit" in header or "b64" in header:
        _refuse("critical_header", "its header asks for an unknown extension")
    if _KEYS_IN_HEADER & header.keys():
        _refuse("key_in_header", "its header brings a key")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str):
        _refuse("algorithm", "its header names no algorithm")
    if not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_LENGTH):
        _refuse("kid", "its header names no key")
    if not isinstance(kind, str):
        _refuse("type", "its type is malformed")
    return _Header(algorithm, kid, kind.lower().removeprefix("application/"))


def _verified_payload(token: str, parts: list[str], header: _Header, key: VerificationKey | None) -> bytes:
    if key is None:
        _refuse("unknown_key", "its key is unknown")
    if key.algorithm != header.algorithm:
        _refuse("algorithm", "its algorithm is not its key's")
    message, signature = token[: -len(parts[2]) - 1].encode(), _decode(parts[2])
    if not parts[2] or not key.verifies(message, signature):
        _refuse("signature", "its signature does not hold")
    return _decode(parts[1])


def _decode(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        _refuse("malformed", "it is not a signed JWT")


def _parse_object(document: bytes) -> dict[str, object]:
    try:
        parsed = _DECODER.decode(document.decode())
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        _refuse("malformed", "a part of it is not a JSON object, or names a member twice")
    return parsed


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and infinity are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC).timestamp()


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    # The range excludes NaN and infinity too, and whole numbers that do not fit a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        _refuse("times", f"its {name} is not a time")
    return value


def _is_id(value: object) -> TypeGuard[str]:
    """Return whether `value` can be an id: a text of a bounded length, without half of a character."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH and not _SURROGATE.search(value)


def _check_access_token(claims: Mapping[str, object], _nonce: str | None) -> None:
    if claims.get("sub") is None:
        _refuse("subject", "it has no subject")
    if "events" in claims or _MARKS_OF_ID_TOKENS & claims.keys():
        _refuse("type", "it is not an access token")


def _check_id_token(claims: Mapping[str, object], nonce: str | None) -> None:
    if claims.get("sub") is None:
        _refuse("subject", "it has no subject")
    if "events" in claims:
        _refuse("type", "it is not an id token")
    if nonce is None or claims.get("nonce") != nonce:
        _refuse("nonce", "it belongs to another sign-in")


def _check_logout_token(claims: Mapping[str, object], _nonce: str | None) -> None:
    events, jti, sid = claims.get("events"), claims.get("jti"), claims.get("sid")
    if not (isinstance(events, dict) and isinstance(events.get(LOGOUT_EVENT), dict)) or "nonce" in claims:
        _refuse("type", "it is not a logout token")
    if "iat" not in claims:
        _refuse("times", "it has no iat")
    if not _is_id(jti):
        _refuse("jti", "it has no jti")
    if sid is not None and not _is_id(sid):
        _refuse("sid", "its sid is malformed")
    if sid is None and claims.get("sub") is None:
        _refuse("subject", "it names neither a subject nor a session")


_KIND_CHECKS: Final = {
    TokenKind.ACCESS: _check_access_token,
    TokenKind.ID: _check_id_token,
    TokenKind.LOGOUT: _check_logout_token,
}


def _refuse(reason: str, sentence: str, now: datetime | None = None) -> NoReturn:
    details = {"reason": reason} if now is None else {"reason": reason, "now": rfc3339(now)}
    raise InvalidSharegramToken(f"Invalid token: {sentence}.", details=details)
