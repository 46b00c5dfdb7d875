"""The queries of the inbox, on both database engines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.database.paging import Order
from safevideo_common.domain.outcomes import Status
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.queries import InboxFilter, Sort
from safevideo_common.inbox.store.rows import InboxEntry

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE = InboxEntry(
    consumer_group="sync-worker",
    event_id="evt_1",
    event_type="performer.profile.updated",
    performer_id="sg_1",
    source_topic="sharegram.performer.v1",
    source_partition=0,
    source_offset=1,
    occurred_at=NOW,
    received_at=NOW,
    decided_at=NOW,
    status=Status.APPLIED,
)
ROWS = (
    ONE,
    ONE._replace(
        event_id="evt_2", received_at=NOW + MINUTE, occurred_at=NOW - MINUTE, status=Status.STALE, source_offset=2
    ),
    ONE._replace(event_id="evt_3", received_at=NOW + 2 * MINUTE, performer_id="sg_2", source_offset=3),
    ONE._replace(event_id="evt_4", received_at=NOW + 2 * MINUTE, event_type="other.thing", status=Status.IGNORED),
    ONE._replace(event_id="evt_5", received_at=NOW + 3 * MINUTE, status=Status.DEAD, reason="CODE: why", payload=b"{}"),
)


@pytest.fixture
async def filled(database: Database) -> Database:
    async with database.transaction() as tx:
        await inbox_rows.insert_rows(tx, ROWS)
        await inbox_rows.count_duplicates(tx, [ROWS[2]._replace(source_offset=9)])
    return database


async def ids(database: Database, matching: InboxFilter, sort: Sort = "received_at", order: Order = "asc") -> list[str]:
    async with database.read_connection() as reading:
        rows, total = await inbox_queries.find(reading, matching, page=1, limit=100, sort=sort, order=order)
    assert total == len(rows)
    return [row.event_id for row in rows]


@pytest.mark.parametrize(
    ("matching", "found"),
    [
        (InboxFilter(), ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"]),
        (InboxFilter(event_type="other.thing"), ["evt_4"]),
        (InboxFilter(performer_id="sg_2"), ["evt_3"]),
        (InboxFilter(performer_id="SG_2"), []),
        (InboxFilter(statuses=[Status.STALE]), ["evt_2"]),
        (InboxFilter(statuses=["duplicate"]), ["evt_3"]),
        (InboxFilter(received_from=NOW + MINUTE, received_to=NOW + 3 * MINUTE), ["evt_2", "evt_3", "evt_4"]),
        (InboxFilter(performer_id="sg_1", statuses=[Status.DEAD]), ["evt_5"]),
        (InboxFilter(statuses=[Status.STALE, Status.DEAD, "duplicate"]), ["evt_2", "evt_3", "evt_5"]),
        (InboxFilter(request_id="nobody"), []),
        (InboxFilter(performer_id="' OR 1=1 --"), []),
    ],
)
async def test_find_applies_all_conditions(filled: Database, matching: InboxFilter, found: list[str]) -> None:
    assert await ids(filled, matching) == found


async def test_find_converts_time_zones(filled: Database) -> None:
    abroad = timezone(timedelta(hours=-8))
    bound = (NOW + 3 * MINUTE).astimezone(abroad)
    assert await ids(filled, InboxFilter(received_from=bound)) == ["evt_5"]


async def test_find_sorts_ties_by_arrival(filled: Database) -> None:
    ascending = await ids(filled, InboxFilter())
    assert await ids(filled, InboxFilter(), order="desc") == ascending[::-1]
    assert (await ids(filled, InboxFilter(), sort="occurred_at"))[0] == "evt_2"


async def test_find_returns_each_row_on_one_page_with_the_total(filled: Database) -> None:
    event_ids: list[str] = []
    async with filled.read_connection() as reading:
        for page in (1, 2, 3):
            rows, total = await inbox_queries.find(reading, InboxFilter(), page=page, limit=2)
            assert total == 5
            event_ids += [row.event_id for row in rows]
        assert await inbox_queries.find(reading, InboxFilter(), page=4, limit=2) == ([], 5)
    assert event_ids == ["evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]


async def test_payload_is_read_for_a_single_event_only(filled: Database) -> None:
    async with filled.read_connection() as reading:
        listed, _ = await inbox_queries.find(reading, InboxFilter(statuses=[Status.DEAD]), page=1, limit=1)
        single = await inbox_queries.get_by_row_id(reading, listed[0].row_id)
        assert await inbox_queries.get_by_event_id(reading, "evt_5") == [single]
    assert listed[0].payload is None
    assert single == replace(listed[0], payload=b"{}")


async def test_get_returns_none_for_a_missing_row(filled: Database) -> None:
    async with filled.read_connection() as reading:
        assert await inbox_queries.get_by_row_id(reading, 2**62) is None
        assert await inbox_queries.get_by_event_id(reading, "evt_9") == []
