"""Grouping of deliveries of the same webhook, and their rows."""

from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet

from safevideo_common.encryption import EncryptionKeys, Purpose
from webhook_ingest.quarantine import RejectedWebhook
from webhook_ingest.quarantine.writer import count_repeats, encrypt_new, group_rejections

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CIPHER = EncryptionKeys.parse(Fernet.generate_key().decode()).cipher(Purpose.QUARANTINED_WEBHOOK)
BODY = b'{"email": "jane@example.com"}'


def rejected(
    seconds: int = 0, *, reason: str = "signature_mismatch", body: bytes = BODY, **sent: str
) -> RejectedWebhook:
    headers = {
        "X-Sharegram-Signature": [sent.pop("signature", "sha256=00")],
        "X-Sharegram-Timestamp": [str(seconds)],
        "traceparent": [str(seconds)],
        **({"X-Sharegram-Event-Id": [sent["id"]]} if sent else {}),
    }
    at, name = NOW + timedelta(seconds=seconds), f"request-{seconds}"
    return RejectedWebhook(at, reason, "WEBHOOK_SIGNATURE_INVALID", "sharegram", headers, body, "192.0.2.1", name)


def test_grouping_joins_retries_with_new_timestamps() -> None:
    (webhook,) = group_rejections([rejected(1), rejected(2), rejected(3)]).values()
    assert (webhook.first.request_id, webhook.times) == ("request-1", 3)
    assert webhook.last_seen_at == NOW + timedelta(seconds=3)


def test_grouping_separates_genuine_webhook_from_forged_one() -> None:
    assert len(group_rejections([rejected(signature="sha256=ff"), rejected()])) == 2


def test_grouping_separates_ids() -> None:
    assert len(group_rejections([rejected(id="evt_1"), rejected(id="evt_2"), rejected()])) == 3


def test_grouping_separates_reasons() -> None:
    assert len(group_rejections([rejected(), rejected(reason="timestamp_out_of_tolerance")])) == 2


def test_existing_webhooks_are_counted_and_new_ones_encrypted_in_order() -> None:
    webhooks = group_rejections([rejected(1), rejected(2, body=b"{}"), rejected(3), rejected(4, body=b"{ }")])
    existing = next(iter(webhooks))
    (repeat,) = count_repeats(webhooks, {existing})
    assert (repeat.fingerprint, repeat.times, repeat.last_seen_at) == (existing, 2, NOW + timedelta(seconds=3))
    rows = encrypt_new(webhooks, {existing}, CIPHER)
    assert [CIPHER.decrypt(row.body, row.fingerprint) for row in rows] == [b"{}", b"{ }"]
    assert [row.body_bytes for row in rows] == [2, 3]
    assert [row.request_id for row in rows] == ["request-2", "request-4"]


def test_row_has_no_readable_body() -> None:
    (row,) = encrypt_new(group_rejections([rejected()]), set(), CIPHER)
    assert "jane" not in repr(row)
