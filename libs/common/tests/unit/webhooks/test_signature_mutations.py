"""A defect of the signature schemes that their tests must detect: only the first half is compared."""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import SharegramScheme, StandardScheme, WebhookSecret
from safevideo_common.webhooks.signatures.scheme import Scheme
from safevideo_testkit.mutations import Mutation, assert_detected

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SENT = str(int(NOW.timestamp()))
SECRET = WebhookSecret("new", b"the-new-secret-of-the-sender")
BODY = b'{"event":"x"}'


def sharegram_headers(change: Callable[[bytes], bytes]) -> CIMultiDict[str]:
    digest = hmac.new(SECRET.key, BODY, hashlib.sha256).digest()
    return CIMultiDict({"X-Sharegram-Signature": f"sha256={change(digest).hex()}"})


def standard_headers(change: Callable[[bytes], bytes]) -> CIMultiDict[str]:
    digest = hmac.new(SECRET.key, f"evt_1.{SENT}.".encode() + BODY, hashlib.sha256).digest()
    signature = b64encode(change(digest)).decode()
    return CIMultiDict({"webhook-id": "evt_1", "webhook-timestamp": SENT, "webhook-signature": f"v1,{signature}"})


def flipped(bit: int) -> Callable[[bytes], bytes]:
    return lambda digest: (int.from_bytes(digest) ^ (1 << bit)).to_bytes(len(digest))


def accepts(scheme: Scheme, headers: CIMultiDict[str]) -> bool:
    try:
        scheme.verify(headers, BODY, [SECRET], NOW)
    except WebhookSignatureInvalid:
        return False
    return True


def rejects_each_flipped_bit(scheme: Scheme, headers: Callable[[Callable[[bytes], bytes]], CIMultiDict[str]]) -> None:
    assert accepts(scheme, headers(lambda digest: digest))
    accepted = [bit for bit in range(256) if accepts(scheme, headers(flipped(bit)))]
    assert not accepted, f"accepted with one of these bits flipped: {accepted}"


def compares_first_half(first: bytes, second: bytes) -> bool:
    half = len(first) // 2
    return first[:half] == second[:half]


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [(SharegramScheme(), sharegram_headers), (StandardScheme(), standard_headers)],
    ids=["sharegram", "standard"],
)
async def test_signature_with_any_flipped_bit_is_rejected(
    scheme: Scheme, headers: Callable[[Callable[[bytes], bytes]], CIMultiDict[str]]
) -> None:
    async def rejects() -> None:
        rejects_each_flipped_bit(scheme, headers)

    mutation = Mutation("a signature is compared by its first half", hmac, "compare_digest", compares_first_half)
    await assert_detected(mutation, rejects)
