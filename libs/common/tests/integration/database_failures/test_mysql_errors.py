"""What the MySQL family says when transactions meet, or when it goes away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import orjson
import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import performers
from safevideo_common.database.dialect import Bulk
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import kyc_requests
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.errors import (
    DatabaseConflict,
    DatabaseUnavailable,
    DataRejected,
    ServiceUnavailable,
)
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking

NOW = datetime(2026, 11, 24, tzinfo=UTC)
INSERT_REQUEST = Bulk(insert(kyc_requests), ("performer_id", "status", "result", "created_at", "updated_at"))


@pytest.fixture
def database_url(migrated_mysql_database: str) -> str:
    return migrated_mysql_database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url, timeout=DEADLINE_SECONDS / 4) as database:
        async with database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_1"), Performer("sg_2")], NOW)
        yield database


async def lock(tx: AsyncConnection, sharegram_id: str) -> None:
    await performers.load_for_update(tx, [sharegram_id])


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def kill(database: Database, connection_id: int) -> None:
    await run(database, f"KILL CONNECTION {connection_id}")


async def id_of(connection: AsyncConnection) -> int:
    number: int | None = await connection.scalar(text("SELECT CONNECTION_ID()"))
    assert number is not None
    return number


async def test_lock_wait_timeout_raises_database_conflict(database: Database) -> None:
    impatient = "SET SESSION innodb_lock_wait_timeout = 1"
    async with database.transaction() as holder:
        await lock(holder, "sg_1")
        with pytest.raises(DatabaseConflict, match="1205"):
            await run(database, impatient, "SELECT id FROM performers WHERE sharegram_id = 'sg_1' FOR UPDATE")


async def test_deadlock_raises_database_conflict_in_one_transaction(database: Database) -> None:
    both_hold = asyncio.Barrier(2)

    async def take(first: str, second: str) -> None:
        async with database.transaction() as tx:
            await lock(tx, first)
            await both_hold.wait()
            await lock(tx, second)

    outcomes = await asyncio.gather(take("sg_1", "sg_2"), take("sg_2", "sg_1"), return_exceptions=True)
    (failure,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(failure, DatabaseConflict)
    assert "1213" in failure.message


async def test_batches_with_the_same_performers_in_any_order_do_not_deadlock(database: Database) -> None:
    names = [f"sg_{number}" for number in range(300)]
    async with database.transaction() as tx:
        await performers.insert_new(tx, map(Performer, names[3:]), NOW)

    async def write(order: list[str]) -> None:
        async with database.transaction() as tx:
            found = await performers.load_for_update(tx, order)
            await performers.update(tx, [found[name] for name in order if name in found], NOW)

    for _ in range(5):
        await asyncio.gather(write(names), write(names[::-1]), write(names[150:] + names[:150]))


async def test_too_deep_document_raises_data_rejected(database: Database) -> None:
    """MySQL takes 100 levels, MariaDB 32."""
    document = orjson.loads("[" * 200 + "]" * 200)
    with pytest.raises(DataRejected, match=r"3157|4025"):
        async with database.transaction() as tx:
            await INSERT_REQUEST.execute(tx, [("sg_1", "pending", document, NOW, NOW)])


async def test_row_changed_after_the_snapshot_raises_database_conflict(database_url: str, database: Database) -> None:
    async with Database.open(database_url, pool_size=1) as stale:
        try:
            await run(stale, "SET SESSION innodb_snapshot_isolation = 1")
        except DatabaseUnavailable:
            pytest.skip("this server knows no innodb_snapshot_isolation")
        await run(stale, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(DatabaseConflict, match="1020"):
            await read_and_lock(stale, between=lambda: run(database, "UPDATE performers SET bio = 'newer'"))


async def read_and_lock(database: Database, between: Callable[[], Awaitable[None]]) -> None:
    async with database.transaction() as tx:
        await performers.id_of(tx, "sg_1")
        await between()
        await lock(tx, "sg_1")


async def test_killed_connection_fails_only_its_transaction(database: Database) -> None:
    async def cut_off_half_way() -> None:
        async with database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_3")], NOW)
            await kill(database, await id_of(tx))
            await lock(tx, "sg_1")

    with pytest.raises(DatabaseUnavailable) as raised:
        await cut_off_half_way()
    assert isinstance(raised.value, ServiceUnavailable)
    async with database.transaction() as tx:
        assert "sg_3" not in await performers.load_for_update(tx, ["sg_3"])


async def test_killed_idle_connection_fails_at_most_one_transaction(database_url: str, database: Database) -> None:
    async with Database.open(database_url, pool_size=1) as idle:
        async with idle.read_connection() as reading:
            own_id = await id_of(reading)
        await kill(database, own_id)
        with pytest.raises(DatabaseUnavailable):
            await idle.probe()
        await idle.probe()


@pytest.mark.parametrize(
    "performer",
    [
        Performer("sg_3", {**DEFAULTS, "username": "x" * 256}),
        Performer("sg_" + "x" * 126),
        Performer("sg_3", {**DEFAULTS, "status": "\udc80"}),
    ],
)
async def test_too_long_or_invalid_text_raises_data_rejected_and_is_not_truncated(
    database: Database, performer: Performer
) -> None:
    with pytest.raises(DataRejected):
        async with database.transaction() as tx:
            await performers.insert_new(tx, [performer], NOW)


async def test_server_warning_is_neither_raised_nor_printed(database: Database) -> None:
    await run(database, "INSERT IGNORE INTO performers SELECT * FROM performers")  # warnings are errors in tests


async def test_slow_statement_ends_at_the_deadline_and_the_pool_stays_usable(database_url: str) -> None:
    async with Database.open(database_url, timeout=0.3) as impatient:
        async with ticking() as ticks:
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await run(impatient, "SELECT SLEEP(30)")
        assert ticks.seconds < 15
        await impatient.probe()


async def test_database_reconnects_after_a_server_restart(database: Database, mysql_server: RunningServer) -> None:
    await database.probe()
    with mysql_server.killed(), pytest.raises(DatabaseUnavailable):
        await database.probe()
    await database.probe()


async def test_hanging_server_is_database_unavailable_at_the_deadline(
    database: Database, mysql_server: RunningServer
) -> None:
    await database.probe()
    async with asyncio.timeout(DEADLINE_SECONDS):
        with mysql_server.paused(), pytest.raises(DatabaseUnavailable):
            await database.probe()
    async with database.transaction() as tx:
        await lock(tx, "sg_1")
