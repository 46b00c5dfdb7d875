"""`safevideo jobs` and `safevideo replay`, on a terminal and in scripts."""

import asyncio
import subprocess
from typing import Any

import orjson
import pytest
import yaml
from sqlalchemy import update

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.model import NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_testkit.command import Run, command_runner

REPLAY = ("replay", "--topic", "sharegram.performer.v1", "--target", "sync-worker")


@pytest.fixture
def command(migrated_sqlite_url: str) -> Run:
    """Return the command on jobs 1 to 3: queued, completed, failed."""

    async def fill() -> None:
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            for job_type in ("event_replay", "performer_sync", "event_replay"):
                await job_admin.enqueue(tx, NewJob(job_type))
            for job_id, status, error in ((2, "completed", None), (3, "failed", "AWAY: it is")):
                row = update(batch_jobs).where(batch_jobs.c.id == job_id)
                await tx.execute(row.values(status=status, error=error, result={"events": 7}))

    asyncio.run(fill())

    return command_runner(DATABASE_URL=migrated_sqlite_url, COLUMNS="140")


def audit_entries(url: str) -> list[AuditEntry]:
    async def read() -> list[AuditEntry]:
        async with Database.open(url) as database, database.read_connection() as reading:
            records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
            return [record.entry for record in records]

    return asyncio.run(read())


def json_of(result: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert (result.returncode, result.stderr) == (code, "")
    return orjson.loads(result.stdout)


def test_jobs_list_filters_and_show_prints_one(command: Run) -> None:
    found = json_of(command("jobs", "list", "--type", "event_replay", "--status", "failed", "--json"))
    assert ([job["jobId"] for job in found["jobs"]], found["total"]) == ([3], 1)
    result = command("jobs", "list")
    assert "AWAY: it is" in result.stdout
    assert result.stdout.strip().endswith("3 of 3")
    assert json_of(command("jobs", "show", "3", "--json"))["result"] == {"events": 7}
    job = yaml.safe_load(command("jobs", "show", "3").stdout)
    assert (job["error"], job["result"]) == ("AWAY: it is", {"events": 7})
    assert "startedAt" not in job, "empty fields are left out"


def test_jobs_show_prints_the_preview_of_a_dry_run_by_performer(command: Run, migrated_sqlite_url: str) -> None:
    preview = {
        "byOutcome": {"applied": 2, "stale": 1},
        "performers": [{"performerId": "sg_1", "changes": {"bio": {"from": None, "to": "a, b"}}}],
        "performersChanging": 1,
    }

    async def fill() -> None:
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            await tx.execute(update(batch_jobs).where(batch_jobs.c.id == 2).values(result=preview))

    asyncio.run(fill())
    result = command("jobs", "show", "2").stdout
    assert yaml.safe_load(result)["result"] == preview
    assert "      bio:\n        from: null\n        to: a, b\n" in result


def test_jobs_retry_and_cancel_are_audited(command: Run, migrated_sqlite_url: str) -> None:
    assert json_of(command("jobs", "retry", "3", "--json"))["status"] == "queued"
    assert json_of(command("jobs", "cancel", "1", "--reason", "enough", "--json"))["cancelReason"] == "enough"
    refused = command("jobs", "cancel", "2")
    assert (refused.returncode, refused.stdout, refused.stderr[:19]) == (1, "", "JOB_NOT_CANCELLABLE")
    assert command("jobs", "retry", "99").stderr.startswith("NOT_FOUND")
    assert [(entry.action, entry.role) for entry in audit_entries(migrated_sqlite_url)] == [
        ("jobs.retried", "cli"), ("jobs.cancelled", "cli")
    ]  # fmt: skip


def test_jobs_wait_exits_with_the_result_of_the_job(command: Run) -> None:
    assert json_of(command("jobs", "wait", "2", "--json"))["status"] == "completed"
    assert json_of(command("jobs", "wait", "3", "--json"), code=1)["error"] == "AWAY: it is"
    assert json_of(command("jobs", "wait", "1", "--timeout", "0", "--json"), code=1)["status"] == "queued"
    assert command("jobs", "wait", "99").returncode == 1


def test_replay_enqueues_a_job_with_all_filters(command: Run, migrated_sqlite_url: str) -> None:
    filters = ("--type", "a.b", "--type", "c.d", "--performer", "sg_1", "--from", "2026-11-24T10:00:00Z")
    job = json_of(command(*REPLAY, *filters, "--to", "2026-11-24T13:00:00+01:00", "--dry-run", "--json"))
    assert (job["jobType"], job["runner"]) == ("event_replay", "sync-worker")
    assert job["parameters"] == {
        "topic": "sharegram.performer.v1", "target": "sync-worker", "types": ["a.b", "c.d"],
        "performerIds": ["sg_1"], "from": "2026-11-24T10:00:00.000Z", "to": "2026-11-24T12:00:00.000Z",
        "dryRun": True, "force": False, "eventsPerSecond": 1000,
    }  # fmt: skip
    assert [entry.action for entry in audit_entries(migrated_sqlite_url)] == ["replays.requested"]
    assert "safevideo jobs wait" in command(*REPLAY, "--all", "--force").stdout


def test_replay_is_a_dry_run_unless_told_otherwise(command: Run) -> None:
    dry = command(*REPLAY, "--since", "10m")
    assert "event_replay (dry run)" in dry.stdout
    assert "To apply the events: --yes" in dry.stdout
    assert json_of(command(*REPLAY, "--since", "10m", "--yes", "--json"))["parameters"]["dryRun"] is False


def test_replay_waits_until_its_timeout(command: Run) -> None:
    result = command(*REPLAY, "--all", "--wait", "--timeout", "0", "--json")
    assert json_of(result, code=1)["status"] == "queued"


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "--topic", "sharegram.kyc.v1", "--target", "sync-worker"),
        ("replay", "--topic", "events", "--target", "sync-worker"),
        (*REPLAY, "--from", "2026-11-24T10:00:00Z", "--to", "2026-11-24T10:00:00Z"),
        (*REPLAY, "--from", "yesterday"),
        REPLAY,
        (*REPLAY, "--all", "--performer", "sg_1"),
        (*REPLAY, "--all", "--yes", "--dry-run"),
        (*REPLAY, "--performer", "sg 1"),
        (*REPLAY, "--events-per-second", "0"),
        ("replay", "--target", "sync-worker"),
        ("jobs", "cancel", "1", "--reason", ""),
        ("jobs", "show", "x"),
    ],
)
def test_bad_usage_exits_with_2(command: Run, arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
