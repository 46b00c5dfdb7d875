"""Many rows with one statement, on both engines."""

from collections.abc import Iterable
from datetime import UTC, datetime
from traceback import format_exception

import pytest
from sqlalchemy import insert, select, text

from safevideo_common.database.dialect import Bulk, Upsert
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import kyc_requests
from safevideo_common.errors import DataRejected

NOW = datetime(2026, 11, 24, tzinfo=UTC)
COLUMNS = ("performer_id", "status", "risk_score", "result", "created_at", "updated_at")
INSERT = Bulk(insert(kyc_requests), COLUMNS)
UPSERT = Bulk(Upsert(kyc_requests, ("id",), COLUMNS), ("id", *COLUMNS))
WRITTEN = [kyc_requests.c[name] for name in COLUMNS]


def row(performer_id: object, result: object = None, status: str = "pending") -> tuple[object, ...]:
    return (performer_id, status, 0.1, result, NOW, NOW)


async def write(database: Database, rows: Iterable[tuple[object, ...]]) -> None:
    async with database.transaction() as tx:
        await INSERT.execute(tx, rows)


async def found(database: Database) -> list[tuple[object, ...]]:
    async with database.read_connection() as connection:
        return [tuple(each) for each in await connection.execute(select(*WRITTEN).order_by(kyc_requests.c.id))]


@pytest.mark.parametrize(
    "odd", ["it's", "\\", "\\'", '"', "%", "%s", ":x", "?", "é🎬", "\n\r\t", "a\x00b", "\x1a", "", "--"]
)
async def test_no_character_means_anything_but_itself(database: Database, odd: str) -> None:
    rows = [row("sg_1", {odd: [odd, {odd: odd}]}), row(odd)]
    await write(database, rows)
    assert await found(database) == rows


async def test_more_than_a_statement_holds_is_written_all_the_same(database: Database) -> None:
    rows = [row(f"sg_{number}", {"checks": "é" * 60_000}) for number in range(40)]
    await write(database, rows)
    assert await found(database) == rows


async def test_an_upsert_changes_what_is_there_in_words_that_no_server_warns_of(database: Database) -> None:
    for status in ("pending", "approved"):
        async with database.transaction() as tx:
            await UPSERT.execute(tx, [(number, *row(f"sg_{number}", status=status)) for number in (1, 2)])
            if tx.dialect.name != "sqlite":
                assert await tx.scalar(text("SELECT @@warning_count")) == 0
    assert await found(database) == [row("sg_1", status="approved"), row("sg_2", status="approved")]


async def test_no_rows_are_no_statement(database: Database) -> None:
    await write(database, [])
    assert await found(database) == []


async def test_a_value_of_another_type_is_refused_before_anything_is_sent(database: Database) -> None:
    with pytest.raises(DataRejected):
        await write(database, [row("sg_1"), (*row("sg_2")[:-1], NOW.replace(tzinfo=None))])
    assert await found(database) == []


async def test_what_the_database_refuses_is_not_repeated_in_the_error(database: Database) -> None:
    with pytest.raises(DataRejected) as caught:
        await write(database, [row(None, {"secret": "hunter" * 2})])
    assert "hunterhunter" not in "".join(format_exception(caught.value))
