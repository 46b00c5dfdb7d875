"""`safevideo events`: from the symptom to the cause to the remedy, on a terminal."""

import asyncio
import getpass
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, AuditFilter
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry

COMMAND = Path(sys.executable).parent / "safevideo"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DEAD: dict[str, Any] = {"status": Status.DEAD, "reason": "HANDLER_FAILED: KeyError", "payload": b'{"bio": "secret"}'}

Run = Callable[..., subprocess.CompletedProcess[str]]


def entry(number: int, **fields: Any) -> InboxEntry:
    at = NOW + timedelta(minutes=number)
    known: dict[str, Any] = {
        "consumer_group": "sync-worker", "event_type": "performer.profile.updated", "performer_id": "sg_1",
        "source_topic": "sharegram.performer.v1", "source_partition": 0, "source_offset": number,
        "occurred_at": at, "received_at": at, "decided_at": at, "status": Status.APPLIED,
    }  # fmt: skip
    return InboxEntry(event_id=f"evt-{number}", **(known | fields))


@pytest.fixture
def events(fresh_sqlite_url: str) -> Run:
    """The command on rows 1 to 4: applied, dead, dead of another performer, dead and no event."""

    async def fill() -> None:
        await migrate(fresh_sqlite_url)
        rows = [
            entry(1),
            entry(2, **DEAD),
            entry(3, **DEAD | {"performer_id": "sg_2"}),
            entry(4, **DEAD | {"reason": "ENVELOPE_INVALID: no ce_id"}),
        ]
        async with Database.open(fresh_sqlite_url) as database, database.transaction() as tx:
            await inbox_rows.insert_rows(tx, rows)

    asyncio.run(fill())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": fresh_sqlite_url, "COLUMNS": "140"}
        return subprocess.run(
            [COMMAND, "events", *arguments], env=environment, capture_output=True, text=True, timeout=180, check=False
        )

    return run


def audited(url: str) -> list[AuditEntry]:
    async def read() -> list[AuditEntry]:
        async with Database.open(url) as database, database.read_connection() as reading:
            records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=100, order="asc")
            return [record.entry for record in records]

    return asyncio.run(read())


def shown(told: subprocess.CompletedProcess[str]) -> Any:
    assert (told.returncode, told.stderr) == (0, "")
    return orjson.loads(told.stdout)


def test_dead_events_are_listed_with_their_reasons_and_without_their_bodies(events: Run) -> None:
    told = events("list", "--status", "dead", "--performer", "sg_1", "--order", "asc")
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.strip().splitlines()
    assert [line.split()[1] for line in lines[2:-1] if line.strip()] == ["evt-2", "evt-4"]
    assert lines[-1] == "2 of 2"
    assert "HANDLER_FAILED: KeyError" in told.stdout
    assert "secret" not in told.stdout


def test_the_filters_are_those_of_the_api(events: Run) -> None:
    times = "--from", "2026-11-24T13:02:00+01:00", "--to", "2026-11-24T12:04:00Z"
    found = shown(
        events("list", *times, "--type", "performer.profile.updated", "--limit", "1", "--page", "2", "--json")
    )
    assert ([event["eventId"] for event in found["events"]], found["total"]) == (["evt-2"], 2)
    assert shown(events("list", "--status", "duplicate", "--json")) == {"events": [], "total": 0}


def test_one_event_is_shown_and_its_body_only_when_asked_for(events: Run) -> None:
    told = events("show", "evt-2")
    assert told.returncode == 0
    assert "reason: 'HANDLER_FAILED: KeyError'" in told.stdout.splitlines()
    assert "secret" not in told.stdout
    assert "secret" in events("show", "2", "--payload").stdout
    (document,) = shown(events("show", "2", "--json", "--payload"))
    assert (document["eventId"], document["payload"]) == ("evt-2", '{"bio": "secret"}')


def test_one_is_retried_by_whoever_has_the_terminal(events: Run, fresh_sqlite_url: str) -> None:
    (row,) = shown(events("retry", "evt-2", "--json"))
    assert (row["status"], row["tries"]) == ("waiting", 0)
    (act,) = audited(fresh_sqlite_url)
    assert (act.actor, act.role, act.action) == (getpass.getuser(), "cli", "events.retried")
    assert act.request_id


def test_what_cannot_be_retried_is_a_failure_that_says_why(events: Run) -> None:
    for event, sentence in {
        "evt-1": "INVALID_STATUS_TRANSITION: The event is applied;",
        "evt-4": "INVALID_STATUS_TRANSITION: The event is dead, and there is nothing to try again",
        "evt-9": "NOT_FOUND: ",
    }.items():
        told = events("retry", event)
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr.startswith(sentence)
    assert events("show", "evt-9").returncode == 1


def test_a_redrive_counts_first_and_then_does_it(events: Run, fresh_sqlite_url: str) -> None:
    dry = events("redrive", "--all")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[-1] == "2 of 3 events can be taken up; nothing was changed. To do it: --yes"
    assert shown(events("redrive", "--all", "--dry-run", "--json"))["byReason"] == {
        "ENVELOPE_INVALID": 1, "HANDLER_FAILED": 2,
    }  # fmt: skip
    done = events("redrive", "--all", "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 events are taken up; the workers try them now.")
    assert shown(events("list", "--status", "waiting", "--json"))["total"] == 2
    assert [act.action for act in audited(fresh_sqlite_url)] == ["events.redrive"] * 2 + [
        "events.redriven",
        "events.redrive",
    ]


def test_a_redrive_takes_what_its_filters_say(events: Run) -> None:
    assert shown(events("redrive", "--reason", "HANDLER", "--performer", "sg_2", "--yes", "--json"))["redriven"] == 1
    limited = shown(events("redrive", "--all", "--limit", "1", "--yes", "--json"))
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
def test_bad_usage_ends_with_2_and_says_why(events: Run, arguments: list[str]) -> None:
    refused = events(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Error" in refused.stderr
