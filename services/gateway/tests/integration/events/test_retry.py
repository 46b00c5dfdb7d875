"""`POST /api/v1/admin/events/{id}/retry`, on every kind of database."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Status
from safevideo_testkit.http import Answer, Api

pytestmark = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Record = Callable[..., Awaitable[None]]
EVENTS = "/api/v1/admin/events"
DEAD: dict[str, Any] = {
    "status": Status.DEAD, "reason": "HANDLER_FAILED: KeyError", "tries": 10, "payload": b"{}",
}  # fmt: skip
LATER = datetime(2999, 1, 1, tzinfo=UTC)


async def retry(api: Api, event: str, headers: dict[str, str]) -> Answer:
    return await api.request("POST", f"{EVENTS}/{event}/retry", headers)


async def audited(database: Database) -> list[AuditEntry]:
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
        return [record.entry for record in records]


async def test_retry_makes_a_dead_event_waiting_with_all_attempts(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("evt-1", **DEAD)
    answer = await retry(gateway, "evt-1", admin)
    assert answer.status == 202, answer
    (row,) = answer.json["data"]
    assert (row["status"], row["tries"], row["nextTryAt"]) == ("waiting", 0, None)
    assert row["reason"] == "REDRIVEN: it was dead: HANDLER_FAILED: KeyError"
    assert (await gateway.get(f"{EVENTS}/evt-1", admin)).json["data"] == row


async def test_retry_makes_a_waiting_event_due_and_keeps_its_attempts(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("evt-1", status=Status.WAITING, reason="NOT_YET: so", tries=3, next_try_at=LATER, payload=b"{}")
    (row,) = (await retry(gateway, "1", admin)).json["data"]
    assert (row["status"], row["tries"], row["reason"]) == ("waiting", 3, "NOT_YET: so")
    assert datetime.fromisoformat(row["nextTryAt"]) < datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("status", [Status.APPLIED, Status.STALE, Status.IGNORED])
async def test_retry_of_another_status_is_a_conflict_that_names_it(
    gateway: Api, admin: dict[str, str], record: Record, status: Status, database: Database
) -> None:
    await record("evt-1", status=status)
    answer = await retry(gateway, "evt-1", admin)
    assert (answer.status, answer.code) == (409, "INVALID_STATUS_TRANSITION")
    assert f"is {status};" in answer.json["error"]["message"]
    assert answer.json["error"]["details"] == {"sync-worker": status}
    assert await audited(database) == []


@pytest.mark.parametrize(
    "gone", [{"reason": "ENVELOPE_INVALID: no ce_id"}, {"payload": None}], ids=["envelope", "body"]
)
async def test_retry_without_a_payload_is_a_conflict(
    gateway: Api, admin: dict[str, str], record: Record, gone: dict[str, Any]
) -> None:
    await record("evt-1", **DEAD | gone)
    answer = await retry(gateway, "evt-1", admin)
    assert (answer.status, answer.code) == (409, "INVALID_STATUS_TRANSITION")
    assert "nothing to try again" in answer.json["error"]["message"]
    assert (await gateway.get(f"{EVENTS}/evt-1", admin)).json["data"]["status"] == "dead"


async def test_retry_redrives_the_rows_of_all_groups_or_of_the_named_group(
    gateway: Api, admin: dict[str, str], record: Record
) -> None:
    await record("evt-1", **DEAD)
    await record("evt-1", **DEAD, consumer_group="kyc-worker")
    await record("evt-1", consumer_group="reports")
    one = await gateway.request("POST", f"{EVENTS}/evt-1/retry?group=kyc-worker", admin)
    assert [row["consumerGroup"] for row in one.json["data"]] == ["kyc-worker"]
    every = await retry(gateway, "evt-1", admin)
    assert [(row["consumerGroup"], row["status"]) for row in every.json["data"]] == [
        ("sync-worker", "waiting"),
        ("kyc-worker", "waiting"),
    ]
    applied = await gateway.request("POST", f"{EVENTS}/evt-1/retry?group=reports", admin)
    assert (applied.status, applied.json["error"]["details"]) == (409, {"reports": "applied"})


async def test_retry_of_an_unknown_event_or_group_is_404(gateway: Api, admin: dict[str, str], record: Record) -> None:
    await record("evt-1", **DEAD)
    for missing in ("evt-2/retry", "77/retry", "evt-1/retry?group=nobody"):
        answer = await gateway.request("POST", f"{EVENTS}/{missing}", admin)
        assert (answer.status, answer.code) == (404, "NOT_FOUND"), missing
    wrong = await gateway.request("POST", f"{EVENTS}/evt-1/retry?grupp=x", admin)
    assert (wrong.status, set(wrong.json["error"]["details"])) == (400, {"grupp"})


async def test_retry_needs_the_role_admin_and_is_audited(
    gateway: Api, admin: dict[str, str], user: dict[str, str], record: Record, database: Database
) -> None:
    await record("evt-1", **DEAD)
    assert (await retry(gateway, "evt-1", user)).status == 403
    assert await audited(database) == []
    assert (await retry(gateway, "evt-1", admin | {"X-Request-Id": "req-7"})).status == 202
    (entry,) = await audited(database)
    assert (entry.actor, entry.role, entry.action, entry.request_id) == ("a-admin", "admin", "events.retried", "req-7")
    assert entry.details == {"eventId": "evt-1", "rowIds": [1], "was": {"sync-worker": "dead"}}
