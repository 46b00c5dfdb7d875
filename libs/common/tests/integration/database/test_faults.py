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
    async with database.reading() as reading:
        return await performers.id_of(reading, sharegram_id) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"status": None},
        {"verified": "neither"},
        {"bio": "half a pair: \ud83c"},
    ],
)
async def test_a_value_that_will_never_be_taken_is_refused_for_good(
    database: Database, fields: dict[str, object]
) -> None:
    with pytest.raises(DataRejected) as raised:
        async with inserted(database, Performer("sg_1", {**DEFAULTS, "email": SECRET, **fields})):
            pass
    assert not isinstance(raised.value, ServiceUnavailable)
    assert SECRET not in raised.value.message


async def test_a_moment_without_a_timezone_is_refused(database: Database) -> None:
    with pytest.raises(DataRejected):
        async with database.transaction() as tx:
            await performers.insert_new(tx, [Performer("sg_1")], NOW.replace(tzinfo=None))


async def test_no_value_of_a_statement_is_in_the_error_or_in_what_caused_it(database: Database) -> None:
    with pytest.raises(DataRejected) as raised:
        async with inserted(database, Performer("sg_1", {**DEFAULTS, "email": SECRET, "status": None})):
            pass
    chain = [raised.value, raised.value.__cause__]
    assert not any(SECRET in str(error) for error in chain)


async def test_what_is_raised_inside_rolls_back_and_passes_through(database: Database) -> None:
    with pytest.raises(LookupError):
        async with inserted(database, Performer("sg_1")):
            raise LookupError
    assert not await exists(database, "sg_1")


async def test_a_missing_table_passes_since_an_operator_mends_it(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE performers"))
    with pytest.raises(DatabaseUnavailable) as raised:
        await exists(database, "sg_1")
    assert isinstance(raised.value, ServiceUnavailable)


async def test_nothing_written_through_a_reading_connection_is_kept(database: Database) -> None:
    async with database.reading() as reading:
        await performers.insert_new(reading, [Performer("sg_1")], NOW)
    assert not await exists(database, "sg_1")


async def test_a_cancelled_transaction_leaves_nothing_and_no_lock(database: Database) -> None:
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


async def test_a_transaction_waits_for_a_connection_no_longer_than_its_deadline(migrated_url: str) -> None:
    async with open_database(migrated_url, pool_size=1) as engine:
        patient, impatient = Database(engine, timeout=DEADLINE_SECONDS), Database(engine, timeout=0.2)
        async with patient.reading():
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await exists(impatient, "sg_1")
        assert not await exists(patient, "sg_1")


async def test_a_probe_answers(database: Database) -> None:
    await database.probe()


@pytest.mark.parametrize(
    "url", ["mysql+aiomysql://nobody:sekret-password@127.0.0.1:1/x", "sqlite+aiosqlite:////nowhere/at/all.db"]
)
async def test_a_database_that_is_not_there_is_unavailable_and_its_password_untold(url: str) -> None:
    async with Database.open(url) as database:
        with pytest.raises(DatabaseUnavailable) as raised:
            await database.probe()
    assert isinstance(raised.value, ServiceUnavailable)
    assert "sekret" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize("url", ["postgresql+asyncpg://x/y", "not a url", "sqlite:///x.db", "mysql://x/y"])
async def test_a_kind_of_database_that_is_not_supported_stops_the_start(url: str) -> None:
    with pytest.raises(StartupError, match="DATABASE_URL"):
        async with Database.open(url):
            pass


async def test_of_two_that_insert_the_same_the_later_one_is_told_to_run_again(database: Database) -> None:
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
