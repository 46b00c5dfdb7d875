"""The SQL of inbox rows, on both database engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import FieldOutcome, Status
from safevideo_common.errors import DatabaseConflict
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.queries import InboxRecord
from safevideo_common.inbox.store.rows import InboxEntry

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
GROUP = "sync-worker"
ONE = InboxEntry(
    consumer_group=GROUP,
    event_id="evt_1",
    event_type="performer.profile.updated",
    performer_id="sg_1",
    source_topic="sharegram.performer.v1",
    source_partition=3,
    source_offset=41,
    occurred_at=NOW - timedelta(seconds=2),
    received_at=NOW - timedelta(seconds=1),
    decided_at=NOW,
    status=Status.APPLIED,
)


async def record(database: Database, *entries: InboxEntry) -> None:
    async with database.transaction() as tx:
        await inbox_rows.insert_rows(tx, entries)


async def count(database: Database, *entries: InboxEntry) -> None:
    async with database.transaction() as tx:
        await inbox_rows.count_duplicates(tx, entries)


async def row(database: Database, event_id: str = "evt_1") -> InboxRecord:
    async with database.read_connection() as reading:
        (found,) = await inbox_queries.get_by_event_id(reading, event_id)
        return found


async def last_record(database: Database) -> tuple[object, ...]:
    """Return the position up to which records of the event are counted."""
    c = event_inbox.c
    query = select(c.source_topic, c.source_partition, c.last_offset).where(c.event_id == "evt_1")
    async with database.read_connection() as reading:
        return tuple((await reading.execute(query)).one())


@asynccontextmanager
async def existing(database: Database, *event_ids: str, group: str = GROUP) -> AsyncIterator[set[str]]:
    async with database.transaction() as tx:
        yield {each.event_id for each in await inbox_rows.existing_rows(tx, group, event_ids)}


async def test_insert_keeps_all_columns(database: Database) -> None:
    full = ONE._replace(
        status=Status.WAITING,
        reason="CODE: a sentence",
        tries=1,
        next_try_at=NOW,
        request_id="req-1",
        payload=bytes(range(256)) + b"'\"\\%s",
        body_sha256="ab" * 32,
        fields=FieldOutcome(8, ("bio", "status"), {"username": WriteVersion(9, 1, 2), "email": WriteVersion(None, 3)}),
    )
    await record(database, full)
    found = await row(database)
    shown = {name: getattr(found, name) for name in InboxEntry._fields if name not in {"dedup_sha256", "fields"}}
    assert (
        InboxEntry(**shown, fields=FieldOutcome(found.event_version, found.fields_won, found.fields_overtaken)) == full
    )
    assert found.duplicates == 0


async def test_insert_keeps_the_largest_payload(database: Database) -> None:
    body = bytes(range(256)) * 4096
    await record(database, ONE._replace(status=Status.DEAD, payload=body))
    assert (await row(database)).payload == body


async def test_insert_cuts_a_long_reason_and_request_id(database: Database) -> None:
    await record(database, ONE._replace(reason="é" * 300, request_id="r" * 300), ONE._replace(event_id="evt_2"))
    cut, bare = await row(database), await row(database, "evt_2")
    assert (cut.reason, cut.request_id) == ("é" * inbox_rows.REASON_LENGTH, "r" * inbox_rows.REQUEST_ID_LENGTH)
    assert (bare.reason, bare.request_id, bare.payload, bare.next_try_at) == (None, None, None, None)


async def test_insert_numbers_rows_in_the_order_of_arrival(database: Database) -> None:
    await record(database, *(ONE._replace(event_id=f"evt_{number}", source_offset=number) for number in range(600)))
    in_order = select(event_inbox.c.event_id).order_by(event_inbox.c.id)
    async with database.read_connection() as reading:
        assert list(await reading.scalars(in_order)) == [f"evt_{number}" for number in range(600)]
    async with existing(database, *(f"evt_{number}" for number in range(700))) as found:
        assert found == {f"evt_{number}" for number in range(600)}


async def test_existing_rows_compares_ids_bytes_within_the_group(database: Database) -> None:
    await record(database, ONE, ONE._replace(event_id="evt_2", status=Status.STALE))
    async with existing(database, "evt_1", "EVT_1", "evt_1 ", "evt_2", "evt_3") as found:
        assert found == {"evt_1", "evt_2"}
    assert [(await row(database, each)).status for each in ("evt_1", "evt_2")] == [Status.APPLIED, Status.STALE]
    async with existing(database, "evt_1", group="kyc-worker") as found:
        assert not found
    async with existing(database) as found:
        assert not found


async def test_event_has_a_row_in_each_group(database: Database) -> None:
    await record(database, ONE, ONE._replace(consumer_group="kyc-worker"))
    async with database.read_connection() as reading:
        rows = await inbox_queries.get_by_event_id(reading, "evt_1")
    assert [each.consumer_group for each in rows] == [GROUP, "kyc-worker"]


async def test_insert_of_an_existing_event_is_a_conflict_and_keeps_nothing(database: Database) -> None:
    await record(database, ONE)
    with pytest.raises(DatabaseConflict):
        await record(database, ONE._replace(event_id="evt_2"), ONE)
    async with existing(database, "evt_2") as found:
        assert not found


async def test_insert_of_another_event_with_the_same_identifying_body_is_a_conflict(database: Database) -> None:
    one = ONE._replace(body_sha256="ab" * 32, dedup_sha256="ab" * 32)
    await record(database, one, one._replace(consumer_group="kyc-worker"))
    with pytest.raises(DatabaseConflict):
        await record(database, one._replace(event_id="evt_2"))
    async with database.read_connection() as reading:
        (found,) = await inbox_rows.rows_of_bodies(reading, GROUP, ["ab" * 32, "cd" * 32])
    assert (found.event_id, found.status, found.body_sha256) == ("evt_1", Status.APPLIED, "ab" * 32)


async def test_concurrent_inserts_of_a_batch_succeed_once(database: Database) -> None:
    batch = [ONE._replace(event_id=f"evt_{number}") for number in range(50)]
    outcomes = await asyncio.gather(*(record(database, *batch) for _ in range(3)), return_exceptions=True)
    assert sorted(map(type, outcomes), key=str) == sorted([type(None), DatabaseConflict, DatabaseConflict], key=str)


async def test_count_duplicates_counts_a_later_record(database: Database) -> None:
    await record(database, ONE)
    await count(database, ONE._replace(source_offset=50, status=Status.DEAD, reason="not taken", payload=b"not taken"))
    found = await row(database)
    assert (found.duplicates, found.source_offset) == (1, 41)
    assert (found.status, found.reason, found.payload) == (Status.APPLIED, None, None)


async def test_count_duplicates_ignores_a_record_read_again(database: Database) -> None:
    await record(database, ONE)
    await count(database, ONE)
    later = ONE._replace(source_offset=50)
    await count(database, later, ONE)
    await count(database, later)
    assert (await row(database)).duplicates == 1


async def test_count_duplicates_counts_each_record_of_a_batch(database: Database) -> None:
    await record(database, ONE, ONE._replace(event_id="evt_2"))
    await count(
        database,
        *(ONE._replace(source_offset=offset) for offset in (42, 43, 44)),
        ONE._replace(event_id="evt_2", source_offset=45),
    )
    assert [(await row(database, each)).duplicates for each in ("evt_1", "evt_2")] == [3, 1]
    assert await last_record(database) == (ONE.source_topic, ONE.source_partition, 44)


async def test_count_duplicates_always_counts_a_record_of_another_partition(database: Database) -> None:
    await record(database, ONE)
    elsewhere = ONE._replace(source_offset=1)
    await count(database, elsewhere._replace(source_partition=4), elsewhere._replace(source_topic="other"))
    assert (await row(database)).duplicates == 2
    assert await last_record(database) == (ONE.source_topic, ONE.source_partition, 41)


async def test_concurrent_counts_of_a_duplicate_count_it_once(database: Database) -> None:
    await record(database, ONE)
    await asyncio.gather(*(count(database, ONE._replace(source_offset=50)) for _ in range(4)))
    assert (await row(database)).duplicates == 1


async def test_blocked_subjects_have_a_waiting_event_in_the_group(database: Database) -> None:
    waiting = ONE._replace(status=Status.WAITING, payload=b"{}")
    await record(
        database,
        waiting,
        waiting._replace(event_id="evt_2"),
        waiting._replace(event_id="evt_3", performer_id="sg_2", consumer_group="kyc-worker"),
        waiting._replace(event_id="evt_4", performer_id=None),
        ONE._replace(event_id="evt_5", performer_id="sg_3"),
    )
    async with database.transaction() as tx:
        assert await inbox_rows.blocked_subjects(tx, GROUP, ["sg_1", "SG_1", "sg_2", "sg_3", "sg_4"]) == {"sg_1"}
        assert await inbox_rows.blocked_subjects(tx, GROUP, []) == set()
