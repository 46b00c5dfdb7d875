"""`POST /api/v1/admin/events/redrive`: a dry run first, then all that the filter finds."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_testkit.http import Answer, Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Record = Callable[..., Awaitable[None]]
Ask = Callable[..., Awaitable[Answer]]
EVERYTHING: dict[str, Any] = {"filter": {}, "all": True}
DEAD: dict[str, Any] = {"status": Status.DEAD, "reason": "HANDLER_FAILED: KeyError", "tries": 10, "payload": b"{}"}
KYC: dict[str, Any] = {
    "event_type": "kyc.verification.failed", "performer_id": "sg_2", "consumer_group": "kyc-worker",
    "reason": "TRIES_EXHAUSTED: after 10 tries", "source_topic": "sharegram.kyc.v1",
}  # fmt: skip
LATER = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def redrive(gateway: Api, admin: dict[str, str]) -> Ask:
    """Sends the body given, or whatever bytes."""

    async def ask(body: object, headers: dict[str, str] | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        url = f"{gateway.base_url}/api/v1/admin/events/redrive"
        async with gateway.session.post(url, data=raw, headers=headers or admin) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    return ask


@pytest.fixture
async def some_dead(record: Record) -> None:
    """Rows 1 to 4 are dead, of which 3 is no event; 5 waits for its time, 6 was applied."""
    await record("evt-1", **DEAD)
    await record("evt-2", **DEAD | KYC)
    await record("sharegram.kyc.v1/0/7", **DEAD | {"event_type": "unreadable", "reason": "ENVELOPE_INVALID: no ce_id"})
    await record("evt-4", **DEAD)
    await record("evt-5", status=Status.WAITING, reason="NOT_YET: so", tries=2, next_try_at=LATER, payload=b"{}")
    await record("evt-6")


@pytest.fixture
def record_many(database: Database) -> Callable[[int], Awaitable[None]]:
    """So many dead events of 50 performers."""

    async def record(number: int) -> None:
        at = datetime(2026, 11, 24, tzinfo=UTC)
        entries = [
            InboxEntry(
                "sync-worker", f"evt-{each}", "performer.profile.updated", f"sg_{each % 50}", "sharegram.performer.v1",
                0, each, at, at, at, Status.DEAD, "HANDLER_FAILED: KeyError", payload=b"{}",
            )
            for each in range(number)
        ]  # fmt: skip
        async with database.transaction() as tx:
            await inbox_rows.insert_rows(tx, entries)

    return record


async def statuses(database: Database) -> list[str]:
    async with database.read_connection() as reading:
        return list(await reading.scalars(select(event_inbox.c.status).order_by(event_inbox.c.id)))


async def audited(database: Database) -> list[AuditEntry]:
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
        return [record.entry for record in records]


@ON_BOTH
@pytest.mark.usefixtures("some_dead")
async def test_redrive_is_a_dry_run_by_default(redrive: Ask, database: Database) -> None:
    before = await statuses(database)
    answer = await redrive(EVERYTHING)
    assert answer.status == 200, answer
    assert answer.json["data"] == {
        "dryRun": True,
        "matching": 4,
        "redrivable": 3,
        "notRedrivable": 1,
        "byType": {"kyc.verification.failed": 1, "performer.profile.updated": 2, "unreadable": 1},
        "byReason": {"TRIES_EXHAUSTED": 1, "HANDLER_FAILED": 2, "ENVELOPE_INVALID": 1},
        "byGroup": {"kyc-worker": 1, "sync-worker": 3},
        "sample": [1, 2, 4],
        "redriven": 0,
        "complete": False,
    }
    assert await statuses(database) == before


@ON_BOTH
@pytest.mark.usefixtures("some_dead")
async def test_redrive_requeues_all_matching_events_once(redrive: Ask, database: Database) -> None:
    first = (await redrive(EVERYTHING | {"dryRun": False})).json["data"]
    assert (first["redriven"], first["complete"]) == (3, True)
    assert await statuses(database) == ["waiting", "waiting", "dead", "waiting", "waiting", "applied"]
    second = (await redrive(EVERYTHING | {"dryRun": False})).json["data"]
    assert (second["matching"], second["notRedrivable"], second["redriven"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({"type": "kyc.verification.failed"}, [2]),
        ({"performerId": "sg_1"}, [1, 4]),
        ({"reason": "HANDLER"}, [1, 4]),
        ({"reason": "HANDLER_FAILED"}, [1, 4]),
        ({"reason": "HANDLER%"}, None),
        ({"reason": "H_NDLER"}, []),
        ({"group": "kyc-worker"}, [2]),
        ({"group": "sync-worker", "from": "2026-11-24T12:03:00Z"}, [4]),
        ({"from": "2026-11-24T12:01:00Z", "to": "2026-11-24T12:03:00+00:00"}, [2]),
        ({"status": "waiting", "performerId": "sg_1"}, [5]),
        ({"status": "waiting", "reason": "NOT_"}, [5]),
    ],
)
@ON_BOTH
@pytest.mark.usefixtures("some_dead")
async def test_redrive_combines_all_filters(redrive: Ask, wanted: dict[str, str], rows: list[int] | None) -> None:
    answer = await redrive({"filter": wanted})
    if rows is None:
        assert (answer.status, set(answer.json["error"]["details"])) == (400, {"filter.reason"})
    else:
        assert answer.json["data"]["sample"] == rows


@ON_BOTH
@pytest.mark.usefixtures("some_dead")
async def test_redrive_makes_waiting_events_due_and_keeps_their_attempts(
    redrive: Ask, gateway: Api, admin: dict[str, str]
) -> None:
    asked = {"filter": {"status": "waiting"}, "all": True, "dryRun": False}
    assert (await redrive(asked)).json["data"]["redriven"] == 1
    shown = (await gateway.get("/api/v1/admin/events/evt-5", admin)).json["data"]
    assert (shown["status"], shown["tries"]) == ("waiting", 2)
    assert shown["nextTryAt"] < "2999"
    assert (await redrive(asked)).json["data"]["matching"] == 0


@ON_BOTH
@pytest.mark.usefixtures("some_dead")
async def test_redrive_with_a_limit_requeues_the_oldest_first(redrive: Ask, database: Database) -> None:
    first = (await redrive(EVERYTHING | {"dryRun": False, "limit": 2})).json["data"]
    assert (first["redriven"], first["complete"]) == (2, False)
    assert (await statuses(database))[:4] == ["waiting", "waiting", "dead", "dead"]
    second = (await redrive(EVERYTHING | {"dryRun": False, "limit": 2})).json["data"]
    assert (second["redriven"], second["complete"]) == (1, True)


@pytest.mark.usefixtures("some_dead")
async def test_redrive_audits_each_run_and_each_change(
    redrive: Ask, admin: dict[str, str], user: dict[str, str], database: Database
) -> None:
    assert (await redrive(EVERYTHING, user)).status == 403
    await redrive({"filter": {"type": "performer.profile.updated", "from": "2026-11-24T12:00:00Z"}})
    await redrive(EVERYTHING | {"dryRun": False}, admin | {"X-Request-Id": "req-9"})
    dry, change, run = await audited(database)
    assert (dry.action, dry.actor, dry.details["dryRun"], dry.details["redriven"]) == (
        "events.redrive", "a-admin", True, 0,
    )  # fmt: skip
    assert dry.details["filter"] == {
        "status": "dead", "event_type": "performer.profile.updated", "received_from": "2026-11-24T12:00:00.000Z",
    }  # fmt: skip
    assert (change.action, change.request_id, change.details) == ("events.redriven", "req-9", {"rowIds": [1, 2, 4]})
    assert (run.action, run.details["dryRun"], run.details["redriven"]) == ("events.redrive", False, 3)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"filter": {}}, {"filter"}),
        ({"filter": {"status": "dead"}}, {"filter"}),
        ({"filter": {"type": "x"}, "all": True}, {"filter"}),
        ({}, {"filter"}),
        ({"filter": []}, {"filter"}),
        ({"filter": {"status": "applied"}}, {"filter.status"}),
        ({"filter": {"performer": "sg_1", "from": "yesterday"}}, {"filter.performer", "filter.from"}),
        (EVERYTHING | {"dryRun": "no", "limit": 0}, {"dryRun", "limit"}),
        (EVERYTHING | {"limit": 100_001, "more": 1}, {"limit", "more"}),
        (b"not JSON", {"body"}),
    ],
)
async def test_redrive_names_each_wrong_field_and_needs_all_for_an_empty_filter(
    redrive: Ask, body: object, names: set[str]
) -> None:
    answer = await redrive(body)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == names


@ON_BOTH
async def test_redrive_audits_each_chunk_of_many_events(
    redrive: Ask, record_many: Callable[[int], Awaitable[None]], database: Database
) -> None:
    await record_many(1_201)
    answer = (await redrive(EVERYTHING | {"dryRun": False, "limit": 1_100})).json["data"]
    assert (answer["redriven"], answer["complete"], len(answer["sample"])) == (1_100, False, 20)
    *changes, run = await audited(database)
    assert [len(entry.details["rowIds"]) for entry in changes] == [500, 500, 100]  # type: ignore[arg-type]
    async with database.read_connection() as reading:
        dead = select(func.count()).where(event_inbox.c.status == Status.DEAD)
        assert await reading.scalar(dead) == 101
    assert run.details["redrivable"] == 1_201
