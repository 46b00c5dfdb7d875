"""`safevideo performers show`: the stale name in one command."""

import asyncio
from datetime import UTC, datetime

import orjson
import pytest

from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import FieldOutcome, Status, stale
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_testkit.command import Run, command_runner

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NINTH = WriteVersion(9, 1_795_521_600_000_000, 4)


@pytest.fixture
def safevideo(migrated_sqlite_url: str) -> Run:
    """Return the command on a performer whose name was set by `evt-9`, after which `evt-7` came."""

    def entry(event_id: str, offset: int, status: Status, reason: str | None, fields: FieldOutcome) -> InboxEntry:
        return InboxEntry(
            "sync-worker", event_id, "performer.profile.updated", "sg_1", "sharegram.performer.v1", 0, offset,
            NOW, NOW, NOW, status, reason, fields=fields,
        )  # fmt: skip

    async def fill() -> None:
        values = {**DEFAULTS, "display_name": "New", "email": "a@example.com"}
        late = FieldOutcome(7, overtaken={"displayName": NINTH})
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_1", values, {"display_name": NINTH})], NOW)
            await inbox_rows.insert_rows(
                tx,
                [
                    entry("evt-9", 4, Status.APPLIED, None, FieldOutcome(9, ("displayName",))),
                    entry("evt-7", 5, Status.STALE, stale(late).reason, late),
                ],
            )

    asyncio.run(fill())

    return command_runner(DATABASE_URL=migrated_sqlite_url, COLUMNS="140")


def test_performers_show_says_who_wrote_a_field_and_what_lost_to_it(safevideo: Run) -> None:
    result = safevideo("performers", "show", "sg_1")
    assert (result.returncode, result.stderr) == (0, "")
    name = next(line.split() for line in result.stdout.splitlines() if "displayName" in line)
    assert name == ["displayName", "New", "9", "2026-11-24T12:00:00.000Z", "evt-9"]
    assert "OVERTAKEN: displayName by version 9" in result.stdout
    assert "a@example.com" not in result.stdout
    assert "a@example.com" in safevideo("performers", "show", "1", "--email").stdout
    document = orjson.loads(safevideo("performers", "show", "sg_1", "--json").stdout)
    assert [each["eventId"] for each in document["unapplied"][0]["overtaken"]] == ["evt-9"]
    assert safevideo("performers", "show", "sg_2").stderr.startswith("PERFORMER_NOT_FOUND: ")


def test_events_show_says_why_the_event_changed_nothing_and_why_there_is_no_body(safevideo: Run) -> None:
    shown = safevideo("events", "show", "evt-7", "--payload").stdout
    assert "reason: 'OVERTAKEN: displayName by version 9'" in shown
    assert "eventId: evt-9" in shown
    assert "BODY_KEPT_ONLY_WHILE_OPEN: the event is stale; the body is in sharegram.performer.v1" in shown
