"""`/api/v1/admin/jobs` and `/api/v1/admin/replays`: what operators see of jobs, and ask for."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import insert, select, update

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_job_tries, batch_jobs, outbox
from safevideo_common.jobs.model import NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_testkit.http import Answer, Api

ON_BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Ask = Callable[..., Awaitable[Answer]]
REPLAY: dict[str, Any] = {"topic": "sharegram.performer.v1", "target": "sync-worker"}
WHOLE: dict[str, Any] = REPLAY | {
    "from": "2026-11-24T10:00:00Z", "to": "2026-11-24T11:00:00+00:00", "types": ["performer.profile.updated"],
    "performerIds": ["sg_1", "sg_2"], "dryRun": False, "force": True, "eventsPerSecond": 50,
}  # fmt: skip


@pytest.fixture
def post(gateway: Api, admin: dict[str, str]) -> Ask:
    """Sends the body given, or whatever bytes."""

    async def ask(path: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        url = f"{gateway.base_url}/api/v1/admin/{path}"
        async with gateway.session.post(url, data=raw, headers=admin if headers is None else headers) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    return ask


@pytest.fixture
async def some(database: Database) -> None:
    """Jobs 1 to 3: queued, processing, failed."""
    async with database.transaction() as tx:
        for job in (
            NewJob("event_replay", runner="sync-worker"),
            NewJob("performer_sync", priority=Priority.HIGH),
            NewJob("event_replay", runner="kyc-worker", priority=Priority.LOW),
        ):
            await job_admin.enqueue(tx, job)
    await changed(database, 2, status="processing", started_at=utc_now(), total_items=10, processed_items=5, tries=2)
    await changed(database, 3, status="failed", error="X: because", finished_at=utc_now(), result={"secret": 1})


async def changed(database: Database, job_id: int, **values: object) -> None:
    async with database.transaction() as tx:
        await tx.execute(update(batch_jobs).where(batch_jobs.c.id == job_id).values(**values))


async def audited(database: Database) -> list[AuditEntry]:
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
        return [record.entry for record in records]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1]),
        ("order=asc&limit=2", [1, 2]),
        ("order=asc&limit=2&page=2", [3]),
        ("type=event_replay", [3, 1]),
        ("type=event_replay&status=failed", [3]),
        ("status=processing&priority=high", [2]),
        ("runner=sync-worker", [1]),
        ("from=2026-01-01T00:00:00Z", [3, 2, 1]),
        ("to=2026-01-01T00:00:00Z", []),
    ],
)
@ON_BOTH
@pytest.mark.usefixtures("some")
async def test_job_list_applies_filters(gateway: Api, admin: dict[str, str], query: str, found: list[int]) -> None:
    answer = await gateway.get(f"/api/v1/admin/jobs?{query}", admin)
    assert [each["jobId"] for each in answer.json["data"]] == found
    assert b"secret" not in answer.body, "results are shown one by one"


async def test_job_list_names_each_wrong_filter(gateway: Api, admin: dict[str, str]) -> None:
    answer = await gateway.get("/api/v1/admin/jobs?status=done&priority=1&type=Sync%20&colour=red", admin)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {"status", "priority", "type", "colour"}


@ON_BOTH
@pytest.mark.usefixtures("some")
async def test_job_is_shown_with_attempts_errors_and_estimated_end(
    gateway: Api, admin: dict[str, str], database: Database
) -> None:
    now = utc_now()
    await changed(database, 2, started_at=now - timedelta(seconds=60), queued_at=now - timedelta(seconds=300))
    ended = {
        "job_id": 2, "number": 1, "worker": "w", "outcome": "retryable", "error": "AWAY: it is",
        "started_at": now - timedelta(seconds=200), "ended_at": now - timedelta(seconds=140),
    }  # fmt: skip
    reset = ended | {"outcome": "reset", "error": "RESET_BY_HAND: it was", "started_at": now - timedelta(seconds=290)}
    async with database.transaction() as tx:
        for each in (reset, ended):
            await tx.execute(insert(batch_job_tries).values(each))
    data = (await gateway.get("/api/v1/admin/jobs/2", admin)).json["data"]
    assert [(each["number"], each["outcome"], each["error"]) for each in data["history"]] == [
        (1, "reset", "RESET_BY_HAND: it was"),
        (2, "retryable", "AWAY: it is"),
    ]
    assert (data["processedItems"], data["totalItems"], data["status"]) == (5, 10, "processing")
    seconds, since = (jobs_moment(data["estimatedEndAt"]) - now).total_seconds(), (utc_now() - now).total_seconds()
    assert 119 < seconds < 121 + 2 * since, "half of it took two minutes in its two tries since the reset"
    failed = (await gateway.get("/api/v1/admin/jobs/3", admin)).json["data"]
    assert (failed["error"], failed["result"], failed["estimatedEndAt"]) == ("X: because", {"secret": 1}, None)


def jobs_moment(text: str) -> Any:
    return type(utc_now()).fromisoformat(text)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("jobs/99", 404, "NOT_FOUND"), ("jobs/abc", 400, "VALIDATION_ERROR"), ("jobs/-1", 400, "VALIDATION_ERROR")],
)
async def test_unknown_job_is_404(gateway: Api, admin: dict[str, str], path: str, status: int, code: str) -> None:
    answer = await gateway.get(f"/api/v1/admin/{path}", admin)
    assert (answer.status, answer.code) == (status, code)


@ON_BOTH
@pytest.mark.usefixtures("some")
async def test_retry_accepts_only_finished_jobs(post: Ask, database: Database) -> None:
    answer = await post("jobs/3/retry")
    assert (answer.status, answer.json["data"]["status"], answer.json["data"]["error"]) == (202, "queued", None)
    again = await post("jobs/3/retry")
    assert (again.status, again.code) == (409, "INVALID_STATUS_TRANSITION")
    assert (await post("jobs/99/retry")).code == "NOT_FOUND"
    (entry,) = await audited(database)
    assert (entry.action, entry.actor) == ("jobs.retried", "a-admin")
    assert entry.details == {
        "jobId": 3,
        "jobType": "event_replay",
        "was": "failed",
        "now": "queued",
        "fromStart": False,
    }


@ON_BOTH
@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(("query", "error"), [("", "RETRIED: it goes on at its cursor"), ("?fromStart=true", None)])
async def test_retry_of_a_failed_job_goes_on_at_its_cursor_unless_told_otherwise(
    post: Ask, database: Database, query: str, error: str | None
) -> None:
    await changed(database, 3, cursor={"after": 7})
    answer = await post(f"jobs/3/retry{query}")
    assert (answer.status, answer.json["data"]["error"]) == (202, error)
    assert (await audited(database))[0].details["fromStart"] is (error is None)


@pytest.mark.usefixtures("some")
async def test_retry_names_a_wrong_parameter(post: Ask) -> None:
    assert (await post("jobs/3/retry?fromStart=perhaps")).code == "VALIDATION_ERROR"


@ON_BOTH
@pytest.mark.usefixtures("some")
async def test_cancel_stores_the_reason(post: Ask, database: Database) -> None:
    queued = (await post("jobs/1/cancel", {"reason": "a mistake"})).json["data"]
    running = (await post("jobs/2/cancel", {"reason": "a mistake"})).json["data"]
    assert (queued["status"], queued["cancelReason"]) == ("cancelled", "a mistake")
    assert (running["status"], running["cancelReason"]) == ("processing", "a mistake")
    assert running["cancelRequestedAt"]
    answer = await post("jobs/3/cancel", {"reason": "too late"})
    assert (answer.status, answer.code) == (409, "JOB_NOT_CANCELLABLE")
    assert (await post("jobs/99/cancel", {"reason": "x"})).code == "NOT_FOUND"
    first, _ = await audited(database)
    assert (first.action, first.details["reason"]) == ("jobs.cancelled", "a mistake")


@ON_BOTH
@pytest.mark.usefixtures("some")
async def test_job_list_tolerates_invalid_column_values(
    gateway: Api, admin: dict[str, str], post: Ask, database: Database
) -> None:
    await changed(database, 1, status="pending", priority="hgih")
    await changed(database, 3, status="Failed")
    listed = (await gateway.get("/api/v1/admin/jobs", admin)).json["data"]
    assert [(each["status"], each["priority"]) for each in listed] == [
        ("failed", "low"), ("processing", "high"), ("unknown", "normal"),
    ]  # fmt: skip
    found = (await gateway.get("/api/v1/admin/jobs?status=unknown", admin)).json["data"]
    assert 1 in [each["jobId"] for each in found]
    assert (await gateway.get("/api/v1/admin/jobs/1", admin)).json["data"]["status"] == "unknown"
    assert (await post("jobs/1/retry")).json["data"]["status"] == "queued"
    assert (await post("jobs/3/retry")).json["data"]["status"] == "queued"


@pytest.mark.parametrize("body", [b"", b"{}", {"reason": ""}, {"reason": "x" * 256}, {"reason": "a\nb"}])
@pytest.mark.usefixtures("some")
async def test_cancel_needs_a_reason(post: Ask, body: object) -> None:
    assert (await post("jobs/1/cancel", body)).code == "VALIDATION_ERROR"


@ON_BOTH
async def test_replay_request_enqueues_a_job_with_its_parameters(post: Ask, database: Database) -> None:
    answer = await post("replays", WHOLE)
    data = answer.json["data"]
    assert (answer.status, data["jobType"], data["status"], data["runner"]) == (
        202,
        "event_replay",
        "queued",
        "sync-worker",
    )
    assert data["parameters"] == WHOLE | {"from": "2026-11-24T10:00:00.000Z", "to": "2026-11-24T11:00:00.000Z"}
    (entry,) = await audited(database)
    assert (entry.action, entry.details) == (
        "replays.requested", {"jobId": data["jobId"], "parameters": data["parameters"]}
    )  # fmt: skip
    async with database.read_connection() as reading:
        assert list(await reading.scalars(select(outbox.c.topic))) == ["integration.commands.v1"]


async def test_replay_is_a_dry_run_without_force_by_default(post: Ask) -> None:
    parameters = (await post("replays", REPLAY)).json["data"]["parameters"]
    assert parameters == REPLAY | {"dryRun": True, "force": False, "eventsPerSecond": 1000}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"topic": "integration.events.v1"}, {"topic"}),
        ({"target": "gateway"}, {"target"}),
        ({"target": "kyc-worker"}, {"target"}),
        ({"topic": "sharegram.kyc.v1"}, {"target"}),
        ({"from": "2026-11-24T11:00:00Z"}, {"to"}),
        ({"from": "yesterday", "to": 5}, {"from", "to"}),
        ({"types": ["a b"]}, {"types"}),
        ({"types": ["t"] * 51}, {"types"}),
        ({"performerIds": [""]}, {"performerIds"}),
        ({"performerIds": [f"sg_{n}" for n in range(1001)]}, {"performerIds"}),
        ({"eventsPerSecond": 0}, {"eventsPerSecond"}),
        ({"dryRun": "no", "force": 1}, {"dryRun", "force"}),
        ({"colour": "red"}, {"colour"}),
        ({"topic": None}, {"topic"}),
    ],
)
async def test_replay_names_each_wrong_field(
    post: Ask, database: Database, change: dict[str, object], wrong: set[str]
) -> None:
    answer = await post("replays", WHOLE | change)
    assert (answer.status, answer.code, set(answer.json["error"]["details"])) == (400, "VALIDATION_ERROR", wrong)
    assert await audited(database) == []


@pytest.mark.parametrize("path", ["jobs/1/retry", "jobs/1/cancel", "replays"])
async def test_job_endpoints_need_the_role_admin(post: Ask, gateway: Api, user: dict[str, str], path: str) -> None:
    assert (await post(path, REPLAY, user)).status == 403
    assert (await post(path, REPLAY, {})).status == 401
    assert (await gateway.get("/api/v1/admin/jobs", user)).status == 403
    assert (await gateway.get("/api/v1/admin/jobs/1")).status == 401
