"""The rule for plausible rejected requests, and the stored parts of them."""

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.web.correlation import Correlation
from webhook_ingest.quarantine import QuarantineMetrics, QuarantineQueue, RejectedWebhook
from webhook_ingest.quarantine.queue import is_plausible

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SIGNED = ("X-Sharegram-Signature", "sha256=00")
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
BODY = b'{"event": "x"}'


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def offered(sent: CIMultiDictProxy[str], body: bytes = BODY) -> list[RejectedWebhook]:
    queue = QuarantineQueue(1000, QuarantineMetrics(CollectorRegistry()))
    error = WebhookSignatureInvalid("no", details={"reason": "signature_mismatch"})
    correlation = Correlation("request-1", TRACE)
    queue.offer_request(sent, body, error, received_at=NOW, remote="192.0.2.1", correlation=correlation)
    return queue.next_batch()


@pytest.mark.parametrize(
    ("sent", "body"),
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
def test_rule_accepts_plausible_requests(sent: CIMultiDictProxy[str], body: bytes) -> None:
    assert is_plausible(sent, body)


@pytest.mark.parametrize(
    ("sent", "body"),
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
def test_rule_rejects_implausible_requests(sent: CIMultiDictProxy[str], body: bytes) -> None:
    assert not is_plausible(sent, body)
    assert offered(sent, body) == []


def test_queue_stores_only_what_a_later_verification_needs() -> None:
    sent = headers(
        ("x-sharegram-signature", "sha256=00"), ("X-Sharegram-Timestamp", "1"), ("X-SHAREGRAM-EVENT-ID", "evt_1"),
        ("webhook-id", "a"), ("webhook-id", "b"), ("Cookie", "secret"), ("Content-Type", "application/json"),
    )  # fmt: skip
    (stored,) = offered(sent)
    assert stored.headers == {
        "X-Sharegram-Signature": ["sha256=00"],
        "X-Sharegram-Timestamp": ["1"],
        "X-Sharegram-Event-Id": ["evt_1"],
        "webhook-id": ["a", "b"],
        "traceparent": [TRACE],
    }
    assert stored[:4] == (NOW, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram")
    assert stored[5:] == (BODY, "192.0.2.1", "request-1")


def test_queue_stores_both_schemes_of_a_request() -> None:
    (stored,) = offered(headers(SIGNED, ("webhook-signature", "v1,abc")))
    assert stored.scheme == "sharegram+standard"
