"""Approve, reject, set the status, suspend: on every kind of database, beside what Sharegram sends."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import utc_now
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import audit_log, kyc_requests, outbox
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import PerformerPatch, decide
from safevideo_common.performers.decisions import PerformerDecisions
from safevideo_testkit.http import Answer, Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
PATH = "/api/v1/performers"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Store = Callable[..., Awaitable[int]]


class RecordingCache:
    def __init__(self) -> None:
        self.ids: list[int] = []

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        self.ids += performer_ids


@pytest.fixture
def verify(database: Database) -> Callable[[str], Awaitable[None]]:
    """Gives a performer a verified KYC request."""

    async def verify(performer_id: str) -> None:
        values = {"performer_id": performer_id, "status": "verified", "created_at": NOW, "updated_at": NOW}
        async with database.transaction() as tx:
            await tx.execute(insert(kyc_requests).values(values))

    return verify


async def set_status(api: Api, performer_id: int, headers: dict[str, str], body: dict[str, object]) -> Answer:
    encoded = msgspec.json.encode(body)
    return await api.request("PUT", f"{PATH}/{performer_id}/status", headers, encoded)


async def receive(database: Database, sharegram_id: str, version: int, at: datetime, status: str) -> None:
    """Apply a status of Sharegram, as a webhook does."""
    patch = PerformerPatch({"status": status}, WriteVersion(version, int(at.timestamp() * 1_000_000)))
    async with database.transaction() as tx:
        row = (await performers.load_for_update(tx, [sharegram_id]))[sharegram_id]
        await performers.update(tx, [row._replace(performer=decide(row.performer, patch)[0])], at)


async def published(database: Database) -> list[dict[str, Any]]:
    async with database.read_connection() as connection:
        payloads = (await connection.scalars(select(outbox.c.payload).order_by(outbox.c.id))).all()
    return [msgspec.json.decode(each) for each in payloads]


@ON_BOTH
async def test_approval_needs_a_verified_request_and_is_published_and_audited(
    gateway: Api, admin: dict[str, str], store: Store, verify: Callable[[str], Awaitable[None]], database: Database
) -> None:
    performer_id = await store("sg_1", status="pending")
    assert (await gateway.get(f"{PATH}/{performer_id}", admin)).json["data"]["status"] == "pending"  # and cached
    refused = await gateway.post(f"{PATH}/{performer_id}/approve", admin, {})
    assert (refused.status, refused.code) == (409, "KYC_NOT_VERIFIED")
    assert await published(database) == []

    await verify("sg_1")
    approved = await gateway.post(f"{PATH}/sg_1/approve", admin, {"notes": "complete"})
    decided = approved.json["data"]
    assert (decided["status"], decided["sharegramStatus"]) == ("active", "pending")
    assert (decided["decision"]["notes"], decided["decision"]["stands"]) == ("complete", True)
    shown = (await gateway.get(f"{PATH}/{performer_id}", admin)).json["data"]
    assert (shown["status"], shown["sharegramStatus"], shown["decision"]) == ("active", "pending", decided["decision"])
    [change] = await published(database)
    assert (change["changes"], change["version"], change["causedBy"]["type"]) == (
        *({"status": "active"}, None),
        "safevideo.performer.decided",
    )
    async with database.read_connection() as connection:
        [entry] = (await connection.execute(select(audit_log))).all()
    assert (entry.action, entry.target) == ("performers.approved", f"performer:{performer_id}")
    assert entry.details == {"from": "pending", "to": "active"}
    again = await gateway.post(f"{PATH}/{performer_id}/approve", admin, {})
    assert (again.status, again.code) == (409, "INVALID_PERFORMER_STATUS")


@ON_BOTH
async def test_decision_outlives_what_sharegram_had_said_before_and_a_newer_status_replaces_it(
    gateway: Api, admin: dict[str, str], store: Store, database: Database
) -> None:
    performer_id = await store("sg_1", status="pending")
    await gateway.post(f"{PATH}/{performer_id}/reject", admin, {"reason": "a copy"})
    before, after = utc_now() - timedelta(hours=1), utc_now() + timedelta(hours=1)
    for version, at, status, visible in (
        (4, before, "under_review", "rejected"),  # late
        (5, after, "under_review", "rejected"),  # the same again, at a newer version
        (6, after, "active", "active"),
    ):
        await receive(database, "sg_1", version, at, status)
        [shown] = (await gateway.get(f"{PATH}?status={visible}", admin)).json["data"]
        assert (shown["status"], shown["sharegramStatus"]) == (visible, status)
        assert shown["decision"]["stands"] is (visible == "rejected")


@ON_BOTH
async def test_suspension_ends_by_itself_once_and_brings_the_approval_back(
    gateway: Api, admin: dict[str, str], store: Store, verify: Callable[[str], Awaitable[None]], database: Database
) -> None:
    performer_id = await store("sg_1", status="pending")
    await verify("sg_1")
    await gateway.post(f"{PATH}/{performer_id}/approve", admin, {})
    suspended = await set_status(gateway, performer_id, admin, {"status": "suspended", "duration": 3})
    assert suspended.json["data"]["status"] == "suspended"
    assert suspended.json["data"]["decision"]["until"] is not None

    cache = RecordingCache()
    early = PerformerDecisions(database, cache, lambda: utc_now() + timedelta(days=2))
    assert await early.end_suspensions() == 0
    due = PerformerDecisions(database, cache, lambda: utc_now() + timedelta(days=3))
    ended = await asyncio.gather(due.end_suspensions(), due.end_suspensions(), return_exceptions=True)
    assert sum(each for each in ended if isinstance(each, int)) == 1, ended
    assert await due.end_suspensions() == 0
    assert set(cache.ids) == {performer_id}
    [shown] = (await gateway.get(f"{PATH}?status=active", admin)).json["data"]
    assert shown["decision"]["status"] == "active"
    changes = [(each["changes"], each["causedBy"]["type"]) for each in await published(database)]
    assert changes[1:] == [
        ({"status": "suspended"}, "safevideo.performer.decided"),
        ({"status": "active"}, "safevideo.performer.suspension_ended"),
    ]


async def test_status_is_set_along_the_allowed_transitions(
    gateway: Api, admin: dict[str, str], store: Store, database: Database
) -> None:
    performer_id = await store("sg_1", status="active")
    orders: Sequence[tuple[dict[str, object], int, str | None]] = (
        ({"status": "active"}, 200, None),  # it is: nothing is written
        ({"status": "pending"}, 409, "INVALID_STATUS_TRANSITION"),
        ({"status": "active", "duration": 3}, 400, "VALIDATION_ERROR"),
        ({"status": "suspended", "duration": 0}, 400, "VALIDATION_ERROR"),
        ({"status": "deleted"}, 400, "VALIDATION_ERROR"),
        ({"status": "suspended"}, 200, None),
        ({"status": "suspended"}, 200, None),
        ({"status": "suspended", "duration": 1}, 200, None),
        ({"status": "rejected"}, 200, None),
        ({"status": "active"}, 409, "INVALID_STATUS_TRANSITION"),
        ({"status": "under_review"}, 200, None),
        ({"status": "active"}, 409, "KYC_NOT_VERIFIED"),
    )
    for body, status, code in orders:
        answer = await set_status(gateway, performer_id, admin, body)
        assert answer.status == status, (body, answer)
        assert code is None or answer.code == code
    statuses = [each["changes"] for each in await published(database)]
    assert statuses == [{"status": each} for each in ("suspended", "rejected", "under_review")]
    assert (await set_status(gateway, 999_999, admin, {"status": "active"})).code == "PERFORMER_NOT_FOUND"


async def test_repeated_decision_with_an_idempotency_key_gets_the_first_response(
    gateway: Api, admin: dict[str, str], store: Store, database: Database
) -> None:
    performer_id = await store("sg_1", status="pending")
    with_key = {**admin, "Idempotency-Key": "once"}
    first = await gateway.post(f"{PATH}/{performer_id}/reject", with_key, {"reason": "a copy"})
    again = await gateway.post(f"{PATH}/{performer_id}/reject", with_key, {"reason": "a copy"})
    assert (first.status, again.status, again.headers.get("Idempotent-Replayed")) == (200, 200, "true")
    assert again.json == first.json
    assert len(await published(database)) == 1


async def test_decisions_at_once_are_made_one_after_the_other(
    gateway: Api, admin: dict[str, str], key: Callable[[Role], Awaitable[dict[str, str]]], store: Store
) -> None:
    performer_id = await store("sg_1", status="pending")
    answers = await asyncio.gather(
        *(gateway.post(f"{PATH}/{performer_id}/reject", admin, {"reason": "a copy"}) for _ in range(4))
    )
    assert sorted(each.status for each in answers) == [200, 409, 409, 409]
    for role in (Role.USER, Role.PERFORMER, Role.MODERATOR, Role.AUDITOR):
        answer = await gateway.post(f"{PATH}/{performer_id}/reject", await key(role), {})
        assert answer.code == "FORBIDDEN"


async def test_no_answer_shows_a_decision_or_an_email_to_a_role_that_may_not_see_it(
    gateway: Api, admin: dict[str, str], key: Callable[[Role], Awaitable[dict[str, str]]], store: Store
) -> None:
    performer_id = await store("sg_1", status="active", email="planted@example.com")
    planted = {"reason": "planted-reason", "notes": "planted-notes"}
    decided = await set_status(gateway, performer_id, admin, {"status": "suspended", **planted})
    assert decided.status == 200, decided
    words = {"planted-reason", "planted-notes", "planted@example.com", "a-admin"}
    paths = (await gateway.get("/openapi.json")).json["paths"]
    reads = [path.replace("{id}", str(performer_id)) for path, operations in paths.items() if "get" in operations]
    shown: dict[Role, set[str]] = {}
    for role in Role:
        headers = await key(role) if role is not Role.ADMIN else admin
        answers = [(await gateway.get(path, headers)).body.decode() for path in reads]
        shown[role] = {word for word in words for each in answers if word in each}
    assert shown[Role.MODERATOR] >= words - {"a-admin"}
    assert shown[Role.ADMIN] == words
    assert shown[Role.AUDITOR] <= {"a-admin"}, "an auditor sees who acted, in the audit log, and not why"
    assert shown[Role.PERFORMER] == shown[Role.USER] == set()
