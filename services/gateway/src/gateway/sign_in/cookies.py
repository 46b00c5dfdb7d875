"""The cookies of sign-in. All are `__Host-`, `Secure` and `SameSite=Lax`; only the CSRF token can be read by a page."""

import re
from hashlib import sha256
from typing import Final

from aiohttp import web
from multidict import CIMultiDictProxy

from safevideo_common.auth.authentication import CSRF_COOKIE, SESSION_COOKIE, SessionCookie, cookie_values
from safevideo_common.auth.sessions import LIFETIME

SIGNED_OUT_COOKIE: Final = "__Host-safevideo_signed_out"
PENDING_PREFIX: Final = "__Host-safevideo_signin_"
MAX_PENDING: Final = 12
"""Sign-ins in progress in one browser, each in a cookie of about 80 bytes. With one more the oldest is dropped."""

PENDING_SECONDS: Final = 600
_DAY: Final = int(LIFETIME.total_seconds())
_PENDING_NAME: Final = re.compile(rf"{PENDING_PREFIX}[0-9a-f]{{12}}", re.ASCII)


def set_session(response: web.StreamResponse, cookie: SessionCookie) -> None:
    """Give the browser its session."""
    _set(response, SESSION_COOKIE, cookie.value, _DAY)
    _set(response, CSRF_COOKIE, cookie.csrf_token, _DAY, readable=True)
    _delete(response, SIGNED_OUT_COOKIE)


def delete_session(response: web.StreamResponse) -> None:
    """Take the session from the browser."""
    _delete(response, SESSION_COOKIE)
    _delete(response, CSRF_COOKIE)


def remember_sign_out(response: web.StreamResponse) -> None:
    """Make the next sign-in ask for the password: the provider's own session could not be ended."""
    _set(response, SIGNED_OUT_COOKIE, "1", _DAY)


def was_signed_out(headers: CIMultiDictProxy[str]) -> bool:
    """Return whether `remember_sign_out` was the last that happened."""
    return bool(cookie_values(headers, SIGNED_OUT_COOKIE))


def pending_name(state: str) -> str:
    """Return the name of the cookie that binds the sign-in with this `state` to its browser."""
    return f"{PENDING_PREFIX}{sha256(state.encode(errors='replace')).hexdigest()[:12]}"


def set_pending(response: web.StreamResponse, headers: CIMultiDictProxy[str], state: str, secret: str) -> None:
    """Bind a sign-in to the browser, and drop its oldest ones beyond `MAX_PENDING`."""
    pairs = (pair.strip().partition("=")[0] for line in headers.getall("Cookie", ()) for pair in line.split(";"))
    names = list(dict.fromkeys(name for name in pairs if _PENDING_NAME.fullmatch(name)))
    for name in names[: max(len(names) + 1 - MAX_PENDING, 0)]:  # browsers send the oldest first
        _delete(response, name)
    _set(response, pending_name(state), secret, PENDING_SECONDS)


def pending_secret(headers: CIMultiDictProxy[str], state: str) -> str:
    """Return the secret that binds the sign-in to this browser, or an empty string."""
    values = cookie_values(headers, pending_name(state))
    return values[0] if len(values) == 1 else ""


def delete_pending(response: web.StreamResponse, state: str) -> None:
    """Drop the cookie of a sign-in that has ended."""
    _delete(response, pending_name(state))


def _set(response: web.StreamResponse, name: str, value: str, seconds: int, *, readable: bool = False) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=not readable, samesite="Lax")


def _delete(response: web.StreamResponse, name: str) -> None:
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")
