"""Transactions that meet: the loser runs again, and each event has one effect."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import performers
from safevideo_common.database.dialect.columns import is_mariadb
from safevideo_common.database.dialect.connections import (
    IDLE_SECONDS,
    LOCK_WAIT_SECONDS,
    SCHEMA_LOCK_SECONDS,
)
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import performers as performer_rows
from safevideo_common.domain.performers import Performer
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.consumer import RecordingHandler, run_sample_consumer, wait_for_words
from safevideo_testkit.harness.processor import START, ProcessorHarness, sample_event

WAITING_FOR_A_LOCK = text(
    "SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST"
    " ON trx_mysql_thread_id = ID WHERE trx_state = 'LOCK WAIT' AND DB = DATABASE()"
)


@pytest.fixture
def handler() -> RecordingHandler:
    return RecordingHandler()


async def somebody_waits(database: Database) -> None:
    async def is_so() -> bool:
        await asyncio.sleep(0.15)  # the server looks anew only when it has not been asked for 0.1 s
        async with database.read_connection() as reading:
            return bool(await reading.scalar(WAITING_FOR_A_LOCK))

    await eventually(is_so)


async def setting(tx: AsyncConnection, assignment: str) -> None:
    await tx.execute(text(f"SET SESSION {assignment}"))


async def test_consumer_retries_after_a_deadlock(
    database: Database, seen: ProcessorHarness, handler: RecordingHandler, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    heavy = [Performer(f"sg_9{number}") for number in range(50)]  # the server ends whoever has written less
    await seen.process(sample_event("sg_1", "a"), sample_event("sg_2", "x"))
    async with run_sample_consumer(database, tmp_path, log, handler) as stream:
        async with database.transaction() as other:
            await performers.insert_new(other, heavy, START)
            await performers.load_for_update(other, ["sg_2"])
            both = [sample_event("sg_1", "b"), sample_event("sg_2", "y")]
            applying = asyncio.create_task(ProcessorHarness(database, log, handler).process(*both))
            await somebody_waits(database)  # it has sg_1 and wants sg_2
            await performers.load_for_update(other, ["sg_1"])
            await other.execute(performer_rows.delete().where(performer_rows.c.sharegram_id.like("sg_9%")))
        await applying
        await stream.publish("sg_1", "c")
        await wait_for_words(seen, {"sg_1": "a b c", "sg_2": "x y"})
    assert handler.loads == 3


async def test_consumer_retries_until_a_row_is_unlocked(
    database: Database, seen: ProcessorHarness, handler: RecordingHandler, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    async def impatient(tx: AsyncConnection) -> None:
        await setting(tx, f"innodb_lock_wait_timeout = {0 if is_mariadb(tx.dialect) else 1}")  # the shortest there is

    async def has_lost_often() -> bool:
        return handler.loads > 7  # so often that it counts as an outage, not as a conflict

    handler.before = impatient
    await seen.process(sample_event("sg_1", "a"))
    async with run_sample_consumer(database, tmp_path, log, handler) as stream:
        async with database.transaction() as other:
            await setting(other, "wait_timeout = 120")  # idle for as long as several waits for a lock take
            await performers.load_for_update(other, ["sg_1"])
            await stream.publish("sg_1", "b", "c")
            await eventually(has_lost_often)
        await wait_for_words(seen, {"sg_1": "a b c"})


async def test_locked_row_delays_only_the_events_of_its_performer(
    database: Database, seen: ProcessorHarness, handler: RecordingHandler, log: FilteringBoundLogger, logs: Path
) -> None:
    async def impatient(tx: AsyncConnection) -> None:
        await setting(tx, "innodb_lock_wait_timeout = 1")

    names = [f"sg_{number}" for number in range(1, 40)]
    await seen.process(*(sample_event(name, "a") for name in names))
    handler.before = impatient
    worker = ProcessorHarness(database, log, handler)
    async with database.transaction() as other:
        await performers.load_for_update(other, ["sg_7"])
        await worker.process(*(sample_event(name, word) for word in ("b", "c") for name in names))
        assert handler.loads == 2  # one wait for the lock, and one transaction around it
        await worker.process(sample_event("sg_7", "d"), sample_event("sg_8", "d"))
        assert handler.loads == 3  # later events of this performer do not wait for the lock
        waiting = [reason for reason in await seen.reasons() if reason]
        assert [reason.partition(":")[0] for reason in waiting] == ["ROW_LOCKED", *["BLOCKED_BY_EARLIER_EVENT"] * 2]
        await worker.scan_after(10)
        expected = dict.fromkeys(names, "a b c") | {"sg_8": "a b c d"}
        assert await seen.words() == expected | {"sg_7": "a"}
    await worker.scan_after(10)
    assert await seen.words() == expected | {"sg_7": "a b c d"}
    assert "ROW_LOCKED" in (logs / "app.log").read_text()
    assert "sg_7" in next(line for line in (logs / "app.log").read_text().splitlines() if "ROW_LOCKED" in line)


async def test_consumer_reads_again_after_a_snapshot_conflict(
    url: str, database: Database, seen: ProcessorHarness, handler: RecordingHandler, log: FilteringBoundLogger
) -> None:
    async def see_an_old_row(tx: AsyncConnection) -> None:
        await performers.id_of(tx, "sg_1")  # the snapshot
        if handler.loads == 1:
            await seen.process(sample_event("sg_1", "b"))

    await seen.process(sample_event("sg_1", "a"))
    async with Database.open(url, pool_size=1, timeout=20) as stale:
        try:
            async with stale.transaction() as tx:
                await setting(tx, "innodb_snapshot_isolation = 1")
                await setting(tx, "TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        except DatabaseUnavailable:
            pytest.skip("this server knows no innodb_snapshot_isolation")
        handler.before = see_an_old_row
        await ProcessorHarness(stale, log, handler).process(sample_event("sg_1", "c"))
    assert handler.loads == 2
    await wait_for_words(seen, {"sg_1": "a b c"})


@pytest.mark.parametrize("known", [True, False], ids=["known performers", "new performers"])
async def test_concurrent_workers_of_one_performer_are_serialized(
    known: bool, database: Database, seen: ProcessorHarness, log: FilteringBoundLogger
) -> None:
    """After a rebalance or beside a replay: each has events of its own."""
    names = [f"sg_{number}" for number in range(20)]
    if known:
        await seen.process(*(sample_event(name, "zero") for name in names))
    workers = [ProcessorHarness(database, log) for _ in range(2)]

    async def work(number: int) -> None:
        for turn in range(5):
            events = [sample_event(name, f"{number}.{turn}") for name in names[:: 1 - 2 * number]]
            await workers[number].process(*events)

    await asyncio.gather(work(0), work(1))
    for said in (await seen.words()).values():
        words = said.split()
        assert len(words) == 10 + known
        assert [word for word in words if word[0] == "0"] == [f"0.{turn}" for turn in range(5)]
        assert [word for word in words if word[0] == "1"] == [f"1.{turn}" for turn in range(5)]
    assert set(await seen.outcomes()) == {("applied", name) for name in names}


async def test_server_ends_idle_sessions_that_hold_locks(database: Database) -> None:
    locks = "@@innodb_lock_wait_timeout, @@lock_wait_timeout"
    idle = "@@wait_timeout, @@net_read_timeout, @@net_write_timeout"
    async with database.read_connection() as reading:
        found = (await reading.execute(text(f"SELECT {locks}, {idle}"))).one()
    assert found == (LOCK_WAIT_SECONDS, SCHEMA_LOCK_SECONDS, IDLE_SECONDS, IDLE_SECONDS, IDLE_SECONDS)


async def test_worker_frozen_in_a_transaction_blocks_others_for_a_bounded_time_and_writes_nothing(
    database: Database, seen: ProcessorHarness, handler: RecordingHandler, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    has_locked, thawed = asyncio.Event(), asyncio.Event()

    async def freeze(tx: AsyncConnection) -> None:
        if handler.loads == 1:
            await setting(tx, "wait_timeout = 1")
            has_locked.set()
            await thawed.wait()

    await seen.process(sample_event("sg_1", "a"))
    handler.after = freeze
    shared = [sample_event("sg_1", "b"), sample_event("sg_1", "c")]
    frozen = asyncio.create_task(ProcessorHarness(database, log, handler).process(*shared))
    await has_locked.wait()
    await seen.process(*shared)  # the new owner of its partitions
    thawed.set()
    with pytest.raises(DatabaseUnavailable):
        await frozen
    await wait_for_words(seen, {"sg_1": "a b c"})
