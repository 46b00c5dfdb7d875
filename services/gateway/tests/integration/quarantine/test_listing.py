"""`GET /api/v1/admin/webhooks/rejected`, `/{id}`, and `GET /api/v1/admin/audit`."""

from hashlib import sha256
from typing import Any

import pytest

from safevideo_testkit.http import Api

REJECTED = "/api/v1/admin/webhooks/rejected"
BODY = b'{"email": "jane@example.com"}'
SIGNED = {"X-Sharegram-Signature": "sha256=" + "ab" * 32, "X-Sharegram-Timestamp": "1764000000", "webhook-id": "msg_1"}
Quarantine = Any  # of this folder's conftest.py


async def test_rejected_webhook_is_shown_without_body_and_signature(
    gateway: Api, admin: dict[str, str], quarantine: Quarantine
) -> None:
    number = await quarantine.keep(BODY, headers=SIGNED)
    answer = await gateway.get(f"{REJECTED}/{number}", admin)
    assert answer.status == 200
    assert answer.json["data"] == {
        "id": number,
        "receivedAt": "2026-11-24T12:00:00.000Z",
        "lastSeenAt": "2026-11-24T12:00:00.000Z",
        "timesSeen": 1,
        "reason": "signature_mismatch",
        "code": "WEBHOOK_SIGNATURE_INVALID",
        "scheme": "sharegram",
        "eventId": "msg_1",
        "timestamp": "1764000000",
        "bodyBytes": len(BODY),
        "bodySha256": sha256(BODY).hexdigest(),
        "remote": "192.0.2.1",
        "requestId": "request-0",
        "releasedAt": None,
        "releasedEventId": None,
    }
    listed = await gateway.get(REJECTED, admin)
    assert listed.json["data"] == [answer.json["data"]]
    assert b"jane" not in answer.body + listed.body
    assert b"abab" not in answer.body + listed.body


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["request-2", "request-1", "request-0"]),
        ("order=asc&limit=2", ["request-0", "request-1"]),
        ("order=asc&limit=2&page=2", ["request-2"]),
        ("reason=signature_malformed", ["request-1"]),
        ("released=true", []),
        ("released=false&order=asc", ["request-0", "request-1", "request-2"]),
        ("from=2026-11-24T12:00:01Z&to=2026-11-24T12:00:02Z", ["request-1"]),
    ],
)
async def test_rejected_list_has_filters_and_pages(
    gateway: Api, admin: dict[str, str], quarantine: Quarantine, query: str, found: list[str]
) -> None:
    for reason in ("signature_mismatch", "signature_malformed", "signature_mismatch"):
        await quarantine.keep(BODY, headers=SIGNED, reason=reason)
    answer = await gateway.get(f"{REJECTED}?{query}", admin)
    assert [each["requestId"] for each in answer.json["data"]] == found


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("reason=A-B", {"reason"}),
        ("released=yes", {"released"}),
        ("from=yesterday&limit=0&body=1", {"from", "limit", "body"}),
    ],
)
async def test_list_names_each_wrong_parameter(
    gateway: Api, admin: dict[str, str], query: str, fields: set[str]
) -> None:
    answer = await gateway.get(f"{REJECTED}?{query}", admin)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == fields


@pytest.mark.parametrize(("given", "status"), [("7", 404), ("9" * 18, 404), ("9" * 19, 400), ("x", 400), ("-1", 400)])
async def test_unknown_and_invalid_ids_of_rejected_webhooks(
    gateway: Api, admin: dict[str, str], given: str, status: int
) -> None:
    answer = await gateway.get(f"{REJECTED}/{given}", admin)
    assert answer.status == status


@pytest.mark.parametrize("path", [REJECTED, f"{REJECTED}/1", "/api/v1/admin/audit"])
async def test_rejected_list_needs_the_role_admin(gateway: Api, user: dict[str, str], path: str) -> None:
    assert (await gateway.get(path, user)).status == 403
    assert (await gateway.get(path)).status == 401
