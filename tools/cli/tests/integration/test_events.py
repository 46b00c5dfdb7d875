"""`safevideo events`: find dead events, show the reason, and redrive them."""

import asyncio
import getpass
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

import orjson
import pytest

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_testkit.command import Run, command_runner

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DEAD: dict[str, Any] = {"status": Status.DEAD, "reason": "HANDLER_FAILED: KeyError", "payload": b'{"bio": "secret"}'}


def entry(number: int, **fields: Any) -> InboxEntry:
    at = NOW + timedelta(minutes=number)
    defaults: dict[str, Any] = {
        "consumer_group": "sync-worker", "event_type": "performer.profile.updated", "performer_id": "sg_1",
        "source_topic": "sharegram.performer.v1", "source_partition": 0, "source_offset": number,
        "occurred_at": at, "received_at": at, "decided_at": at, "status": Status.APPLIED,
    }  # fmt: skip
    return InboxEntry(event_id=f"evt-{number}", **(defaults | fields))


@pytest.fixture
def events(migrated_sqlite_url: str) -> Run:
    """Return the command on rows 1 to 4: applied, dead, dead of another performer, dead and no event."""

    async def fill() -> None:
        rows = [
            entry(1, request_id="req-1"),
            entry(2, **DEAD),
            entry(3, **DEAD | {"performer_id": "sg_2"}),
            entry(4, **DEAD | {"reason": "ENVELOPE_INVALID: no ce_id"}),
        ]
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            await inbox_rows.insert_rows(tx, rows)

    asyncio.run(fill())

    return command_runner("events", DATABASE_URL=migrated_sqlite_url, COLUMNS="140")


def audit_entries(url: str) -> list[AuditEntry]:
    async def read() -> list[AuditEntry]:
        async with Database.open(url) as database, database.read_connection() as reading:
            records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
            return [record.entry for record in records]

    return asyncio.run(read())


def json_of(result: subprocess.CompletedProcess[str]) -> Any:
    assert (result.returncode, result.stderr) == (0, "")
    return orjson.loads(result.stdout)


def test_events_list_shows_reasons_and_no_bodies(events: Run) -> None:
    result = events("list", "--status", "dead", "--performer", "sg_1", "--order", "asc")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.strip().splitlines()
    assert [line.split()[1] for line in lines[2:-1] if line.strip()] == ["evt-2", "evt-4"]
    assert lines[-1] == "2 of 2"
    assert "HANDLER_FAILED: KeyError" in result.stdout
    assert "secret" not in result.stdout


def test_events_list_has_the_filters_of_the_api(events: Run) -> None:
    times = "--from", "2026-11-24T13:02:00+01:00", "--to", "2026-11-24T12:04:00Z"
    found = json_of(
        events("list", *times, "--type", "performer.profile.updated", "--limit", "1", "--page", "2", "--json")
    )
    assert ([event["eventId"] for event in found["events"]], found["total"]) == (["evt-2"], 2)
    assert json_of(events("list", "--status", "duplicate", "--json")) == {"events": [], "total": 0}
    assert json_of(events("list", "--status", "applied", "--status", "dead", "--json"))["total"] == 4
    (of_request,) = json_of(events("list", "--request-id", "req-1", "--json"))["events"]
    assert of_request["eventId"] == "evt-1"
    assert json_of(events("list", "--since", "10m", "--json"))["total"] == 0


def test_events_show_prints_the_body_only_with_payload(events: Run) -> None:
    result = events("show", "evt-2")
    assert result.returncode == 0
    assert "reason: 'HANDLER_FAILED: KeyError'" in result.stdout.splitlines()
    assert "secret" not in result.stdout
    assert "secret" in events("show", "2", "--payload").stdout
    (document,) = json_of(events("show", "2", "--json", "--payload"))
    assert (document["eventId"], document["payload"]) == ("evt-2", '{"bio": "secret"}')


def test_events_retry_is_audited_with_the_user(events: Run, migrated_sqlite_url: str) -> None:
    (row,) = json_of(events("retry", "evt-2", "--json"))
    assert (row["status"], row["tries"]) == ("waiting", 0)
    (act,) = audit_entries(migrated_sqlite_url)
    assert (act.actor, act.role, act.action) == (getpass.getuser(), "cli", "events.retried")
    assert act.request_id


def test_events_retry_fails_with_the_reason_for_other_statuses(events: Run) -> None:
    for event, sentence in {
        "evt-1": "INVALID_STATUS_TRANSITION: The event is applied;",
        "evt-4": "INVALID_STATUS_TRANSITION: The event is dead, and there is nothing to try again",
        "evt-9": "NOT_FOUND: ",
    }.items():
        result = events("retry", event)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(sentence)
    assert events("show", "evt-9").returncode == 1


def test_events_close_gives_a_dead_event_up_and_its_reason_finds_it(events: Run, migrated_sqlite_url: str) -> None:
    assert events("close", "evt-2").returncode == 2
    (row,) = json_of(events("close", "evt-2", "--reason", "sent again as evt-9", "--json"))
    assert (row["status"], row["reason"]) == ("ignored", "CLOSED: sent again as evt-9")
    assert [act.action for act in audit_entries(migrated_sqlite_url)] == ["events.closed"]
    assert events("close", "evt-2", "--reason", "again").stderr.startswith("INVALID_STATUS_TRANSITION: ")
    (found,) = json_of(events("list", "--reason", "CLOSED", "--json"))["events"]
    assert found["eventId"] == "evt-2"


def test_version_is_that_of_the_command() -> None:
    shown = command_runner()("--version")
    assert (shown.returncode, shown.stdout) == (0, f"safevideo {metadata.version('safevideo-cli')}\n")


def test_events_redrive_counts_first_and_redrives_with_yes(events: Run, migrated_sqlite_url: str) -> None:
    dry = events("redrive", "--all")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[-1] == "2 of 3 events can be redriven; nothing was changed. To do it: --yes"
    assert json_of(events("redrive", "--all", "--dry-run", "--json"))["byReason"] == {
        "ENVELOPE_INVALID": 1, "HANDLER_FAILED": 2,
    }  # fmt: skip
    done = events("redrive", "--all", "--yes")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "2 events are redriven; the workers process them now."
    assert json_of(events("list", "--status", "waiting", "--json"))["total"] == 2
    assert [act.action for act in audit_entries(migrated_sqlite_url)] == ["events.redrive"] * 2 + [
        "events.redriven",
        "events.redrive",
    ]


def test_events_redrive_filters(events: Run) -> None:
    assert json_of(events("redrive", "--reason", "HANDLER", "--performer", "sg_2", "--yes", "--json"))["redriven"] == 1
    limited = json_of(events("redrive", "--all", "--limit", "1", "--yes", "--json"))
    assert (limited["redriven"], limited["complete"]) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "--yes"],
        ["redrive", "--all", "--performer", "sg_1"],
        ["redrive", "--all", "--dry-run", "--yes"],
        ["redrive", "--all", "--status", "applied"],
        ["redrive", "--from", "yesterday"],
        ["list", "--from", "2026-11-24T12:00:00"],
        ["list", "--status", "lost"],
        ["show", "é"],
        ["retry"],
    ],
)
def test_bad_usage_exits_with_2_and_prints_the_reason(events: Run, arguments: list[str]) -> None:
    refused = events(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Error" in refused.stderr
