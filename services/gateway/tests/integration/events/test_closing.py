"""`POST /api/v1/admin/events/{id}/close`: what nothing will apply any more is given up, with a reason."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_testkit.http import Api

pytestmark = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
EVENTS = "/api/v1/admin/events"
DEAD: dict[str, Any] = {"status": Status.DEAD, "reason": "BODY_INVALID: data", "tries": 1, "payload": b"{}"}


async def test_closed_event_is_ignored_with_its_reason_and_without_its_body(
    gateway: Api, admin: dict[str, str], record: Callable[..., Awaitable[None]], database: Database
) -> None:
    await record("evt-1", **DEAD)
    await record("evt-2")
    answer = await gateway.post(f"{EVENTS}/evt-1/close", admin, {"reason": "sent again as evt-9"})
    (row,) = answer.json["data"]
    assert (row["status"], row["reason"], row["advice"]) == ("ignored", "CLOSED: sent again as evt-9", None)
    async with database.read_connection() as reading:
        assert await reading.scalar(select(event_inbox.c.payload).where(event_inbox.c.event_id == "evt-1")) is None
        (audited,), _ = await audit_store.find(reading, AuditFilter(), page=1, limit=10, order="asc")
    assert (audited.entry.action, audited.entry.target) == ("events.closed", "event:evt-1")
    assert audited.entry.details["was"] == ["BODY_INVALID"]
    for event in ("evt-1", "evt-2"):  # a second time, and one that is applied
        refused = await gateway.post(f"{EVENTS}/{event}/close", admin, {"reason": "again"})
        assert (refused.status, refused.code) == (409, "INVALID_STATUS_TRANSITION")
    assert (await gateway.post(f"{EVENTS}/evt-3/close", admin, {"reason": "none"})).status == 404
    for reason in ("", "  ", "two\nlines", "x" * 201):
        assert (await gateway.post(f"{EVENTS}/evt-1/close", admin, {"reason": reason})).code == "VALIDATION_ERROR"
    for reason, found in (("CLOSED", ["evt-1"]), ("CLO", ["evt-1"]), ("BODY", [])):
        listed = await gateway.get(f"{EVENTS}?reason={reason}", admin)
        assert [each["eventId"] for each in listed.json["data"]] == found
