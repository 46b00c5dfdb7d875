"""Which refused requests are worth keeping, and what is kept of them."""

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.web.correlation import Correlation
from webhook_ingest.quarantine.capture import Rejected, is_plausible, offer_rejected

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SIGNED = ("X-Sharegram-Signature", "sha256=00")
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
BODY = b'{"event": "x"}'


class Kept:
    def __init__(self) -> None:
        self.all: list[Rejected] = []

    def offer(self, rejected: Rejected) -> None:
        self.all.append(rejected)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def offered(given: CIMultiDictProxy[str], body: bytes = BODY) -> list[Rejected]:
    kept = Kept()
    error = WebhookSignatureInvalid("no", details={"reason": "signature_mismatch"})
    correlation = Correlation("request-1", TRACE)
    offer_rejected(kept, given, body, error, received_at=NOW, remote="192.0.2.1", correlation=correlation)
    return kept.all


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(SIGNED), b"{}"),
        (headers(SIGNED), b"\r\n\t {"),
        (headers(("x-sharegram-signature", "")), BODY),
        (headers(("webhook-signature", "v1,abc"), ("webhook-id", "msg_1")), BODY),
        (headers(SIGNED, ("Content-Type", "application/json; charset=utf-8")), b"[]"),
        (headers(SIGNED, ("Content-Type", "application/vnd.sharegram+JSON")), b"oops"),
        (headers(SIGNED, SIGNED), BODY),
        (headers(SIGNED), b"{" + b" " * (MAX_VALUE_BYTES - 1)),
    ],
)
def test_what_looks_like_ours(given: CIMultiDictProxy[str], body: bytes) -> None:
    assert is_plausible(given, body)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(), BODY),
        (headers(("webhook-id", "msg_1"), ("X-Sharegram-Event-Id", "evt_1")), BODY),
        (headers(SIGNED), b""),
        (headers(SIGNED), b"user=admin&password=x"),
        (headers(SIGNED, ("Content-Type", "text/html")), b"<html>"),
        (headers(SIGNED), b"{" + b" " * MAX_VALUE_BYTES),
        (headers(SIGNED, SIGNED, SIGNED), BODY),
        (headers(("X-Sharegram-Signature", "a" * 1025)), BODY),
        (headers(("X-Sharegram-Signature", "sha256=é")), BODY),
        (headers(("X-Sharegram-Signature", "sha256=\udcff")), BODY),
        (headers(SIGNED, ("X-Sharegram-Event-Id", "x" * 1025)), BODY),
        (headers(SIGNED, ("webhook-timestamp", "1\x00")), BODY),
    ],
)
def test_what_does_not(given: CIMultiDictProxy[str], body: bytes) -> None:
    assert not is_plausible(given, body)
    assert offered(given, body) == []


def test_what_a_later_verdict_needs_is_kept_and_nothing_else() -> None:
    given = headers(
        ("x-sharegram-signature", "sha256=00"), ("X-Sharegram-Timestamp", "1"), ("X-SHAREGRAM-EVENT-ID", "evt_1"),
        ("webhook-id", "a"), ("webhook-id", "b"), ("Cookie", "secret"), ("Content-Type", "application/json"),
    )  # fmt: skip
    (kept,) = offered(given)
    assert kept.headers == {
        "X-Sharegram-Signature": ["sha256=00"],
        "X-Sharegram-Timestamp": ["1"],
        "X-Sharegram-Event-Id": ["evt_1"],
        "webhook-id": ["a", "b"],
        "traceparent": [TRACE],
    }
    assert kept[:4] == (NOW, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram")
    assert kept[5:] == (BODY, "192.0.2.1", "request-1")


def test_a_request_that_claims_both_schemes_says_so() -> None:
    (kept,) = offered(headers(SIGNED, ("webhook-signature", "v1,abc")))
    assert kept.scheme == "sharegram+standard"
