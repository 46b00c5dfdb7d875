"""Which deliveries are the same webhook, and what is stored of it."""

from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet

from safevideo_common.encryption import Cipher
from webhook_ingest.quarantine.capture import Rejected
from webhook_ingest.quarantine.records import group_rejections, rejections, repeats

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CIPHER = Cipher.from_key(Fernet.generate_key().decode())
BODY = b'{"email": "jane@example.com"}'


def rejected(seconds: int = 0, *, reason: str = "signature_mismatch", body: bytes = BODY, **sent: str) -> Rejected:
    headers = {
        "X-Sharegram-Signature": [sent.pop("signature", "sha256=00")],
        "X-Sharegram-Timestamp": [str(seconds)],
        "traceparent": [str(seconds)],
        **({"X-Sharegram-Event-Id": [sent["id"]]} if sent else {}),
    }
    at, name = NOW + timedelta(seconds=seconds), f"request-{seconds}"
    return Rejected(at, reason, "WEBHOOK_SIGNATURE_INVALID", "sharegram", headers, body, "192.0.2.1", name)


def test_a_retry_with_a_new_timestamp_is_the_same_webhook() -> None:
    (webhook,) = group_rejections([rejected(1), rejected(2), rejected(3)]).values()
    assert (webhook.first.request_id, webhook.times) == ("request-1", 3)
    assert webhook.last_seen_at == NOW + timedelta(seconds=3)


def test_what_a_forger_sends_first_does_not_hide_the_true_one() -> None:
    assert len(group_rejections([rejected(signature="sha256=ff"), rejected()])) == 2


def test_the_same_body_under_another_id_is_another_webhook() -> None:
    assert len(group_rejections([rejected(id="evt_1"), rejected(id="evt_2"), rejected()])) == 3


def test_one_that_came_too_late_and_one_that_did_not_are_two() -> None:
    assert len(group_rejections([rejected(), rejected(reason="timestamp_out_of_tolerance")])) == 2


def test_what_is_known_is_counted_and_the_rest_encrypted_in_order() -> None:
    webhooks = group_rejections([rejected(1), rejected(2, body=b"{}"), rejected(3), rejected(4, body=b"{ }")])
    known = next(iter(webhooks))
    (repeat,) = repeats(webhooks, {known})
    assert (repeat.fingerprint, repeat.times, repeat.last_seen_at) == (known, 2, NOW + timedelta(seconds=3))
    rows = rejections(webhooks, {known}, CIPHER)
    assert [CIPHER.decrypt(row.body) for row in rows] == [b"{}", b"{ }"]
    assert [row.body_bytes for row in rows] == [2, 3]
    assert [row.request_id for row in rows] == ["request-2", "request-4"]


def test_nothing_of_a_body_is_readable_in_its_row() -> None:
    (row,) = rejections(group_rejections([rejected()]), set(), CIPHER)
    assert "jane" not in repr(row)
