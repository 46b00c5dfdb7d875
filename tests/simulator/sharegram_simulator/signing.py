"""The three signatures of Sharegram: two schemes for webhooks, one for calls to its API."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Literal

STANDARD_PREFIX: Final = "whsec_"

SchemeName = Literal["sharegram", "standard"]


def sign_sharegram(body: bytes, secret: str, at: datetime, event_id: str | None = None) -> dict[str, str]:
    """Headers of a webhook in Sharegram's own scheme. Only `body` is under the signature, `at` and the id are not."""
    headers = {
        "X-Sharegram-Signature": f"sha256={_hmac_sha256(secret.encode(), body).hex()}",
        "X-Sharegram-Timestamp": unix_seconds(at),
    }
    return headers if event_id is None else headers | {"X-Sharegram-Event-Id": event_id}


def sign_standard(body: bytes, secret: str, at: datetime, event_id: str | None) -> dict[str, str]:
    """Headers of a webhook in the Standard Webhooks scheme. Raises `ValueError` without an id: the scheme signs it."""
    if event_id is None:
        raise ValueError("the standard scheme needs an event id")
    signed = b".".join((event_id.encode(), unix_seconds(at).encode(), body))
    signature = b64encode(_hmac_sha256(standard_key(secret), signed)).decode()
    return {"webhook-id": event_id, "webhook-timestamp": unix_seconds(at), "webhook-signature": f"v1,{signature}"}


SCHEMES: Final[Mapping[SchemeName, Callable[[bytes, str, datetime, str | None], dict[str, str]]]] = {
    "sharegram": sign_sharegram,
    "standard": sign_standard,
}
SIGNATURE_HEADERS: Final[Mapping[SchemeName, str]] = {
    "sharegram": "X-Sharegram-Signature",
    "standard": "webhook-signature",
}


def standard_key(secret: str) -> bytes:
    """The key in a `whsec_…` secret; any other secret is its own key. Raises `ValueError` when that is no base64."""
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    return b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)


def sign_call(method: str, path: str, body: bytes, secret_key: str, at: datetime) -> dict[str, str]:
    """Headers of a call to the partner API. `path` is the request's path as sent, from `/v1` on, without its query."""
    timestamp = unix_seconds(at)
    return {
        "X-Sharegram-Timestamp": timestamp,
        "X-Sharegram-Signature": call_signature(method, path, timestamp, body, secret_key),
    }


def call_signature(method: str, path: str, timestamp: str, body: bytes, secret_key: str) -> str:
    """Hex HMAC-SHA256 of `METHOD\\npath\\ntimestamp\\nbody`."""
    signed = "\n".join((method.upper(), path, timestamp, "")).encode() + body
    return _hmac_sha256(secret_key.encode(), signed).hex()


def unix_seconds(at: datetime) -> str:
    """Whole seconds since 1970, rounded down."""
    return str(int(at.timestamp()))


def _hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
