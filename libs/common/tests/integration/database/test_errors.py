"""What a failed statement is called, on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from safevideo_common.database import performers
from safevideo_common.database.engine import Database, open_database
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.errors import (
    DatabaseUnavailable,
    DataRejected,
    ServiceUnavailable,
    StartupError,
)
from safevideo_testkit.eventually import DEADLINE_SECONDS

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SECRET = "zoe@example.com"


@asynccontextmanager
async def inserted(database: Database, performer: Performer) -> AsyncIterator[None]:
    async with database.transaction() as tx:
        await performers.insert_new(tx, [performer], NOW)
        yield


async def exists(database: Database, sharegram_id: str) -> bool:
    async with database.read_connection() as reading:
        return await performers.id_of(reading, sharegram_id) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"status": None},
        {"verified": "neither"},
        {"bio": "half a pair: \ud83c"},
    ],
)
async def test_database_raises_data_rejected_for_an_invalid_value(
    database: Database, fields: dict[str, object]
) -> None:
    with pytest.raises(DataRejected) as raised:
        async with inserted(database, Performer("sg_1", {**DEFAULTS, "email": SECRET, **fields})):
            pass
    assert not isinstance(raised.value, ServiceUnavailable)
    assert SECRET not in raised.value.message


async def test_utc_datetime_rejects_a_value_without_a_timezone(database: Database) -> None:
    with pytest.raises(DataRejected):
        async with database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_1")], NOW.replace(tzinfo=None))


async def test_database_error_has_no_value_of_the_statement(database: Database) -> None:
    with pytest.raises(DataRejected) as raised:
        async with inserted(database, Performer("sg_1", {**DEFAULTS, "email": SECRET, "status": None})):
            pass
    chain = [raised.value, raised.value.__cause__]
    assert not any(SECRET in str(error) for error in chain)


async def test_transaction_rolls_back_and_raises_the_error_of_its_block(database: Database) -> None:
    with pytest.raises(LookupError):
        async with inserted(database, Performer("sg_1")):
            raise LookupError
    assert not await exists(database, "sg_1")


async def test_missing_table_is_database_unavailable(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE performers"))
    with pytest.raises(DatabaseUnavailable) as raised:
        await exists(database, "sg_1")
    assert isinstance(raised.value, ServiceUnavailable)


async def test_read_connection_discards_writes(database: Database) -> None:
    async with database.read_connection() as reading:
        await performers.insert_new(reading, [Performer("sg_1")], NOW)
    assert not await exists(database, "sg_1")


async def test_cancelled_transaction_leaves_no_rows_and_no_lock(database: Database) -> None:
    holding = asyncio.Event()

    async def hold() -> None:
        async with inserted(database, Performer("sg_1")):
            holding.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await asyncio.wait_for(holding.wait(), DEADLINE_SECONDS)
    holder.cancel()
    assert isinstance((await asyncio.gather(holder, return_exceptions=True))[0], asyncio.CancelledError)
    assert not await exists(database, "sg_1")
    async with asyncio.timeout(DEADLINE_SECONDS), inserted(database, Performer("sg_1")):
        pass


async def test_transaction_waits_for_a_connection_until_its_deadline(migrated_url: str) -> None:
    async with open_database(migrated_url, pool_size=1) as engine:
        patient, impatient = Database(engine, timeout=DEADLINE_SECONDS), Database(engine, timeout=0.2)
        async with patient.read_connection():
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await exists(impatient, "sg_1")
        assert not await exists(patient, "sg_1")


async def test_probe_returns_when_the_database_answers(database: Database) -> None:
    await database.probe()


@pytest.mark.parametrize(
    "url", ["mysql+aiomysql://nobody:sekret-password@127.0.0.1:1/x", "sqlite+aiosqlite:////nowhere/at/all.db"]
)
async def test_missing_database_is_unavailable_without_its_password_in_the_error(url: str) -> None:
    async with Database.open(url) as database:
        with pytest.raises(DatabaseUnavailable) as raised:
            await database.probe()
    assert isinstance(raised.value, ServiceUnavailable)
    assert "sekret" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize("url", ["postgresql+asyncpg://x/y", "not a url", "sqlite:///x.db", "mysql://x/y"])
async def test_unsupported_database_url_raises_startup_error(url: str) -> None:
    with pytest.raises(StartupError, match="DATABASE_URL"):
        async with Database.open(url):
            pass


async def test_second_insert_of_a_key_raises_database_conflict(database: Database) -> None:
    first = Performer("sg_1")
    outcomes = await asyncio.gather(
        *(_insert(database, first._replace(fields={**DEFAULTS, "bio": str(number)})) for number in range(4)),
        return_exceptions=True,
    )
    failures = [outcome for outcome in outcomes if outcome is not None]
    assert len(failures) == 3
    assert all(isinstance(failure, ServiceUnavailable) for failure in failures)


async def _insert(database: Database, performer: Performer) -> None:
    async with inserted(database, performer):
        pass
