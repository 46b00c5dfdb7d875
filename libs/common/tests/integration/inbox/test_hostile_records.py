"""Records that another producer wrote: each gets a row and a dead letter, and the partition goes on."""

import pytest
from sqlalchemy import text

from safevideo_common.broker.types import MAX_RECORD_BYTES, Headers, Record
from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.dead_letters import MAX_HEADER_BYTES
from safevideo_common.inbox.handler import delivery_of
from safevideo_testkit.harness.processor import START, ProcessorHarness, sample_event


def record(value: bytes = b"hello", headers: Headers = (), timestamp_ms: int = 0) -> Record:
    return Record("marks", 0, 7, timestamp_ms, b"key", value, headers)


def headers(**values: bytes) -> Headers:
    return tuple((dict(Envelope("evt", "mark", START, "sg_1").headers()) | values).items())


async def refuse(database: Database, table: str, column: str, value: str) -> None:
    """Let the database refuse rows of `table` with this value, as it would refuse one that fits no column."""
    kind = "BLOB" if column == "payload" else "TEXT"
    async with database.transaction() as tx:
        if tx.dialect.name == "sqlite":
            statement = (
                f"CREATE TRIGGER refused BEFORE INSERT ON {table} WHEN NEW.{column} = CAST('{value}' AS {kind}) "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        else:
            statement = f"ALTER TABLE {table} ADD CONSTRAINT refused CHECK ({column} <> '{value}')"
        await tx.execute(text(statement))


@pytest.mark.parametrize("timestamp_ms", [-(2**63), -1, 1_764_000_000_000_000, 2**63 - 1])
async def test_record_may_have_any_timestamp(harness: ProcessorHarness, timestamp_ms: int) -> None:
    await harness.process(delivery_of(record(b"a", headers(), timestamp_ms)), sample_event("sg_2", "x"))
    assert await harness.words() == {"sg_1": "a", "sg_2": "x"}


@pytest.mark.parametrize("time", [b"0001-01-01T00:30:00+01:00", b"9999-12-31T23:59:59-01:00", b"0999-12-31T00:00:00Z"])
async def test_event_time_that_no_database_stores_is_an_invalid_envelope(
    harness: ProcessorHarness, time: bytes
) -> None:
    await harness.process(delivery_of(record(b"a", headers(ce_time=time))), sample_event("sg_1", "b"))
    assert await harness.words() == {"sg_1": "b"}
    assert (await harness.reasons())[0] == "ENVELOPE_INVALID: the time is out of range - at `$.ce_time`"


async def test_record_whose_row_is_refused_gets_a_row_under_its_position(
    harness: ProcessorHarness, database: Database
) -> None:
    await refuse(database, "event_inbox", "event_id", "evt-refused")
    hostile = delivery_of(record(b"a", headers(ce_id=b"evt-refused")))
    for _ in range(2):
        await harness.process(hostile, sample_event("sg_2", "x", event_id="good", offset=8))
    assert await harness.outcomes() == [("dead", None), ("applied", "sg_2")]
    assert await harness.reasons() == ["ENVELOPE_INVALID: the database refuses the row of this record", ""]
    (copy,) = [each for each in await harness.outbox() if each.topic == "marks.dlq.v1"]
    assert (copy.key, copy.value, dict(copy.headers)["ce_id"]) == (b"key", b"a", b"evt-refused")


async def test_record_whose_dead_letter_is_refused_gets_a_dead_letter_without_its_bytes(
    harness: ProcessorHarness, database: Database
) -> None:
    await refuse(database, "outbox", "payload", "explode")
    await harness.process(sample_event("sg_1", "explode", offset=3), sample_event("sg_2", "x"))
    assert await harness.outcomes() == [("dead", None), ("applied", "sg_2")]
    (copy,) = [each for each in await harness.outbox() if each.topic == "marks.dlq.v1"]
    assert (copy.value, dict(copy.headers)["dlq_offset"]) == (b"", b"3")


async def test_processor_waits_if_the_database_refuses_every_row(harness: ProcessorHarness, database: Database) -> None:
    await refuse(database, "event_inbox", "consumer_group", "marks")
    with pytest.raises(DatabaseUnavailable, match="refuses each row"):
        await harness.process(sample_event("sg_1", "a"))
    assert await harness.words() == {}


async def test_dead_letter_leaves_out_what_does_not_fit_its_topic(harness: ProcessorHarness) -> None:
    large = (("first", b"1"), ("second", b"2" * MAX_HEADER_BYTES), ("third", b"3"))
    await harness.process(delivery_of(record(b"v" * MAX_RECORD_BYTES, large)))
    (copy,) = await harness.outbox()
    assert [name for name, _ in copy.headers][:2] == ["first", "dlq_group"]
    assert dict(copy.headers)["dlq_cut"] == b"headers,value"
    assert len(copy.value) + sum(len(name) + len(value) for name, value in copy.headers) < MAX_RECORD_BYTES
