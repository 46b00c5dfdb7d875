"""The SQL of waiting events, on both database engines."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status, dead
from safevideo_common.inbox.store import (
    queries as inbox_queries,
)
from safevideo_common.inbox.store import (
    retries as inbox_retries,
)
from safevideo_common.inbox.store import (
    rows as inbox_rows,
)
from safevideo_common.inbox.store.queries import InboxRecord
from safevideo_common.inbox.store.retries import QueueHead, WaitingEvent
from safevideo_common.inbox.store.rows import InboxEntry

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
GROUP = "kyc-worker"
BODY = b'{"event": "kyc.verification.completed"}'
WAITING = InboxEntry(
    consumer_group=GROUP,
    event_id="evt_1",
    event_type="kyc.verification.completed",
    performer_id="sg_1",
    source_topic="sharegram.kyc.v1",
    source_partition=0,
    source_offset=1,
    occurred_at=NOW,
    received_at=NOW,
    decided_at=NOW,
    status=Status.WAITING,
    reason="UNKNOWN_VERIFICATION: it may come",
    tries=1,
    next_try_at=NOW,
    request_id="req-1",
    payload=BODY,
)


async def record(database: Database, *entries: InboxEntry) -> None:
    async with database.transaction() as tx:
        await inbox_rows.insert_rows(tx, entries)


async def due(database: Database, now: datetime = NOW, limit: int = 100) -> list[QueueHead]:
    async with database.read_connection() as reading:
        return await inbox_retries.due_heads(reading, GROUP, now, limit)


async def unscheduled(database: Database, limit: int = 100) -> list[QueueHead]:
    async with database.read_connection() as reading:
        return await inbox_retries.unscheduled_heads(reading, GROUP, limit)


async def queue(database: Database, head: QueueHead, now: datetime = NOW, limit: int = 100) -> list[WaitingEvent]:
    async with database.transaction() as tx:
        return await inbox_retries.waiting_of(tx, GROUP, head, now, limit)


async def row(database: Database, event_id: str) -> InboxRecord:
    async with database.read_connection() as reading:
        (found,) = await inbox_queries.get_by_event_id(reading, event_id)
        return found


async def test_queue_is_due_when_its_head_is_due(database: Database) -> None:
    await record(
        database,
        WAITING._replace(next_try_at=NOW + SECOND),
        WAITING._replace(event_id="evt_2", next_try_at=None, tries=0),
        WAITING._replace(event_id="evt_3", next_try_at=NOW),
        WAITING._replace(event_id="evt_4", performer_id="sg_2", next_try_at=None),
        WAITING._replace(event_id="evt_5", performer_id="sg_2", next_try_at=NOW),
    )
    assert await due(database) == []
    assert [head.performer_id for head in await due(database, NOW + SECOND)] == ["sg_1"]
    assert [head.performer_id for head in await unscheduled(database)] == ["sg_2"]


async def test_queue_ends_before_an_event_that_is_not_due(database: Database) -> None:
    await record(
        database,
        WAITING._replace(next_try_at=None),
        WAITING._replace(event_id="evt_2", next_try_at=NOW + SECOND),
        WAITING._replace(event_id="evt_3", next_try_at=None),
    )
    (head,) = await unscheduled(database)
    assert [event.event_id for event in await queue(database, head)] == ["evt_1"]
    assert [event.event_id for event in await queue(database, head, NOW + SECOND)] == ["evt_1", "evt_2", "evt_3"]


async def test_due_heads_are_sorted_by_time_and_limited(database: Database) -> None:
    for number, seconds in enumerate((3, 1, 2)):
        at = NOW - seconds * SECOND
        await record(database, WAITING._replace(event_id=f"evt_{number}", performer_id=f"sg_{number}", next_try_at=at))
    assert [head.performer_id for head in await due(database)] == ["sg_0", "sg_2", "sg_1"]
    assert [head.performer_id for head in await due(database, limit=1)] == ["sg_0"]


async def test_due_heads_are_waiting_events_of_the_group(database: Database) -> None:
    await record(
        database,
        WAITING._replace(status=Status.DEAD),
        WAITING._replace(event_id="evt_2", status=Status.APPLIED),
        WAITING._replace(event_id="evt_3", consumer_group="sync-worker"),
    )
    assert await due(database) == await unscheduled(database) == []


async def test_queue_is_in_the_order_of_arrival(database: Database) -> None:
    await record(database, *(WAITING._replace(event_id=f"evt_{number}", source_offset=number) for number in range(5)))
    await record(database, WAITING._replace(event_id="evt_other", performer_id="sg_2"))
    (head, _other) = await due(database)
    assert [event.event_id for event in await queue(database, head)] == [f"evt_{number}" for number in range(5)]
    assert [event.event_id for event in await queue(database, head, limit=2)] == ["evt_0", "evt_1"]


async def test_waiting_event_has_all_columns_of_a_retry(database: Database) -> None:
    await record(database, WAITING)
    (head,) = await due(database)
    (event,) = await queue(database, head)
    assert event == WaitingEvent(
        head.row_id, "evt_1", WAITING.event_type, "sg_1", WAITING.source_topic, 0, 1, NOW, NOW, "req-1", 1, NOW, BODY
    )


async def test_event_without_a_performer_waits_alone(database: Database) -> None:
    await record(database, *(WAITING._replace(event_id=f"evt_{number}", performer_id=None) for number in range(2)))
    heads = await due(database)
    assert [[event.event_id for event in await queue(database, head)] for head in heads] == [["evt_0"], ["evt_1"]]


async def test_queue_is_empty_after_another_member_processed_the_head(database: Database) -> None:
    await record(database, WAITING)
    (head,) = await due(database)
    async with database.transaction() as tx:
        await inbox_retries.reschedule(tx, head.row_id, NOW + SECOND, 2, "UNKNOWN_VERIFICATION: still")
    assert await queue(database, head) == []
    async with database.transaction() as tx:
        await inbox_retries.complete(tx, head.row_id, APPLIED, NOW)
    assert await queue(database, head, NOW + SECOND) == []


async def test_complete_keeps_the_payload_of_dead_events_only(database: Database) -> None:
    outcomes = {"evt_1": APPLIED, "evt_2": Outcome(Status.STALE), "evt_3": dead("TOO_MANY", "x" * 300)}
    await record(database, *(WAITING._replace(event_id=each, performer_id=each) for each in outcomes))
    async with database.transaction() as tx:
        for head in await inbox_retries.due_heads(tx, GROUP, NOW, 10):
            await inbox_retries.complete(tx, head.row_id, outcomes[str(head.performer_id)], NOW + SECOND)
    rows = [await row(database, each) for each in outcomes]
    assert [each.status for each in rows] == [Status.APPLIED, Status.STALE, Status.DEAD]
    assert [each.payload for each in rows] == [None, None, BODY]
    assert [each.reason for each in rows] == [None, None, ("TOO_MANY: " + "x" * 300)[: inbox_rows.REASON_LENGTH]]
    assert {(each.decided_at, each.next_try_at) for each in rows} == {(NOW + SECOND, None)}


async def test_rescheduled_event_has_its_attempts(database: Database) -> None:
    await record(database, WAITING)
    (head,) = await due(database)
    async with database.transaction() as tx:
        await inbox_retries.reschedule(tx, head.row_id, NOW + SECOND, 2, "UNKNOWN_VERIFICATION: still")
    assert await due(database) == []
    (event,) = await queue(database, head, NOW + SECOND)
    assert (event.tries, event.next_try_at) == (2, NOW + SECOND)
    assert (await row(database, "evt_1")).reason == "UNKNOWN_VERIFICATION: still"


async def test_second_member_finds_a_locked_queue_complete(database: Database) -> None:
    await record(database, *(WAITING._replace(event_id=f"evt_{number}") for number in range(3)))
    (head,) = await due(database)

    async def work_off() -> int:
        async with database.transaction() as tx:
            events = await inbox_retries.waiting_of(tx, GROUP, head, NOW, 10)
            for event in events:
                await inbox_retries.complete(tx, event.row_id, APPLIED, NOW)
            return len(events)

    assert sorted(await asyncio.gather(work_off(), work_off())) == [0, 3]


@pytest.mark.mysql
@pytest.mark.parametrize("database_url", ["mysql"], indirect=True)
@pytest.mark.parametrize("when", [NOW - SECOND, NOW], ids=["none is due", "all are due"])
async def test_due_heads_are_found_without_reading_other_waiting_events(database: Database, when: datetime) -> None:
    """By the server's own count of rows read; the performers have many events that do not wait."""
    applied = WAITING._replace(status=Status.APPLIED, next_try_at=None, payload=None)
    await record(
        database,
        *(applied._replace(event_id=f"old_{number}", performer_id=f"sg_{number % 100}") for number in range(3000)),
        *(WAITING._replace(event_id=f"evt_{number}", performer_id=f"sg_{number}") for number in range(3000)),
    )
    async with database.read_connection() as reading:
        await reading.execute(text("ANALYZE TABLE event_inbox"))
        before = await _rows_read(reading)
        found = await inbox_retries.due_heads(reading, GROUP, when, 50)
        assert len(found) == (50 if when == NOW else 0)
        assert await _rows_read(reading) - before < 400


async def _rows_read(reading: AsyncConnection) -> int:
    rows = await reading.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(value) for _, value in rows)
