"""Migrations, on both engines."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import Index, column, insert, inspect, table, text
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.database.dialect import migration_lock
from safevideo_common.database.engine import Database, open_database
from safevideo_common.database.migrate import SchemaState, migrate, schema_state
from safevideo_common.database.schema import MIGRATIONS, check_schema, head
from safevideo_common.database.tables import metadata
from safevideo_common.errors import SchemaBehind

NUMBERS = sorted(path.name[:4] for path in MIGRATIONS.glob("versions/0*.py"))
INDEXES = sorted((each for table in metadata.sorted_tables for each in table.indexes), key=lambda each: str(each.name))
SECONDS = 180.0


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    """Return the URL of a database that migrations have made, and not of a copy."""
    await migrate(database_url)
    return database_url


class CutOffError(Exception):
    """Stands for a migrator's death."""


def cut_off_at(number: str) -> Callable[[str, str], None]:
    """Fails between the change of migration `number` and the commit of its number."""

    def told(done: str, _title: str) -> None:
        if done == number:
            raise CutOffError

    return told


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    async with open_database(url, pool_size=1) as engine, engine.begin() as connection:
        yield connection


async def schema(url: str) -> object:
    async with connected(url) as connection:
        return await connection.run_sync(described)


def described(connection: Connection) -> object:
    """All that the database says about its tables, in an order that does not depend on how they were made."""
    if connection.dialect.name != "sqlite":
        return {name: sorted(_created_as(connection, name)) for name in _tables(connection)}
    inspector = inspect(connection)
    return {
        name: (
            [_column(each) for each in inspector.get_columns(name)],
            sorted(map(str, inspector.get_indexes(name))),
            sorted(map(str, inspector.get_unique_constraints(name))),
            str(inspector.get_pk_constraint(name)),
        )
        for name in _tables(connection)
    }


def _tables(connection: Connection) -> list[str]:
    return [name for name in inspect(connection).get_table_names() if name != "alembic_version"]


def _created_as(connection: Connection, name: str) -> list[str]:
    statement: str = connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1]
    return [line.strip().rstrip(",") for line in statement.splitlines()]


def _column(column: ReflectedColumn) -> tuple[str, str, bool, object]:
    return column["name"], str(column["type"]), column["nullable"], column["default"]


async def stamp(url: str, number: str) -> None:
    async with connected(url) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": number})


async def forget(url: str) -> None:
    async with connected(url) as connection:
        await connection.execute(text("DELETE FROM alembic_version"))


async def test_the_migrated_schema_is_that_of_the_tables_in_the_code(migrated_url: str) -> None:
    migrated = await schema(migrated_url)
    async with connected(migrated_url) as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    assert migrated == await schema(migrated_url)


async def test_an_empty_database_is_migrated_and_told_of_each_step_in_order(database_url: str) -> None:
    heard: list[tuple[str, str]] = []
    before = await migrate(database_url, lambda number, title: heard.append((number, title)))
    assert before == SchemaState(None, head())
    assert before.target == head()
    assert [number for number, _ in heard] == NUMBERS
    assert heard[0][1] == "The inbox: one row for each event and consumer group."
    assert await schema_state(database_url) == SchemaState(head(), head())


async def test_migrating_again_changes_nothing(migrated_url: str) -> None:
    heard: list[str] = []
    state = await migrate(migrated_url, lambda number, _: heard.append(number))
    assert (state, heard) == (SchemaState(head(), head()), [])


async def test_a_migration_that_was_cut_off_anywhere_is_finished_by_the_next(database_url: str) -> None:
    for number in NUMBERS:
        with pytest.raises(CutOffError):
            await migrate(database_url, cut_off_at(number))
        assert (await schema_state(database_url)).is_behind
    await migrate(database_url)
    finished = await schema(database_url)
    assert not (await schema_state(database_url)).is_behind
    async with connected(database_url) as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.execute(text("DROP TABLE alembic_version"))
    await migrate(database_url)
    assert finished == await schema(database_url)


@pytest.mark.parametrize("missing", [INDEXES, INDEXES[::2]], ids=["every index", "every second index"])
async def test_a_migration_that_was_cut_off_between_its_statements_is_finished_by_the_next(
    migrated_url: str, missing: Sequence[Index]
) -> None:
    finished = await schema(migrated_url)
    async with connected(migrated_url) as connection:
        for index in missing:
            await connection.run_sync(index.drop)
    assert await schema(migrated_url) != finished
    await forget(migrated_url)
    await migrate(migrated_url)
    assert await schema(migrated_url) == finished


@pytest.mark.parametrize("number", ["0000", *NUMBERS[:-1]])
async def test_every_migration_runs_twice_without_harm_to_rows(migrated_url: str, number: str) -> None:
    async with Database.open(migrated_url) as database, database.transaction() as tx:
        await api_keys.create(tx, "ops", Role.ADMIN, datetime(2026, 11, 24, tzinfo=UTC))
    before = await schema(migrated_url)
    await (stamp(migrated_url, number) if number in NUMBERS else forget(migrated_url))
    await migrate(migrated_url)
    assert await schema(migrated_url) == before
    async with Database.open(migrated_url) as database, database.read_connection() as reading:
        assert [key.client for key in await api_keys.all_keys(reading)] == ["ops"]


async def test_migrations_at_once_end_in_one_schema(database_url: str) -> None:
    heard: list[str] = []
    states = await asyncio.gather(*(migrate(database_url, lambda number, _: heard.append(number)) for _ in range(4)))
    assert sorted(state.current or "" for state in states) == ["", head(), head(), head()]
    assert heard == NUMBERS


async def test_a_migrator_waits_for_the_one_at_work(database_url: str) -> None:
    async with open_database(database_url, pool_size=1) as engine, engine.connect() as first, migration_lock(first):
        second = asyncio.create_task(migrate(database_url))
        done, _ = await asyncio.wait([second], timeout=0.5)
        assert not done
        assert (await schema_state(database_url)).current is None
    assert (await asyncio.wait_for(second, SECONDS)).current is None
    assert not (await schema_state(database_url)).is_behind


async def test_an_empty_database_is_refused_with_the_command_that_mends_it(database_url: str) -> None:
    async with Database.open(database_url) as database:
        with pytest.raises(SchemaBehind, match=r"empty.*safevideo migrate"):
            await check_schema(database)


async def test_a_schema_that_is_behind_is_refused_with_both_numbers(migrated_url: str) -> None:
    await stamp(migrated_url, NUMBERS[-2])
    async with Database.open(migrated_url) as database:
        with pytest.raises(SchemaBehind, match=rf"{NUMBERS[-2]}.*{NUMBERS[-1]}.*safevideo migrate"):
            await check_schema(database)


async def test_a_schema_of_a_newer_build_is_fine_and_left_alone(migrated_url: str) -> None:
    await stamp(migrated_url, "9999")
    async with Database.open(migrated_url) as database:
        await check_schema(database)
    assert (await migrate(migrated_url)).target == "9999"


async def test_earlier_merges_are_taken_back_to_what_each_account_had_itself(migrated_url: str) -> None:
    """An admin with two duplicates of lower roles, the second of which is the one of which the e-mail was taken."""
    await stamp(migrated_url, "0050")
    now = "2026-11-24 12:00:00"
    accounts: list[dict[str, object]] = [
        {"id": 1, "email": "c@example.com", "role": "user", "merged_into": None, "username": "c"},
        {"id": 2, "email": "merged:2", "role": "performer", "merged_into": 1, "username": "b"},
        {"id": 3, "email": "merged:3", "role": "user", "merged_into": 1, "username": "c"},
    ]
    merges = [
        (2, {"rows": {"user_identities.user_id": [12]}, "fields": {}, "email": "b@example.com"}),
        (
            3,
            {
                "rows": {"user_identities.user_id": [13]},
                "fields": {
                    "username": ["a", "c"], "role": ["admin", "user"], "email": [None, "c@example.com"]
                },
                "email": "c@example.com",
            },
        ),
    ]  # fmt: skip
    async with connected(migrated_url) as connection:
        for account in accounts:
            values: dict[str, object] = account | {"created_at": now, "updated_at": now}
            await connection.execute(insert(table("users", *map(column, values))).values(values))
        for number in (11, 12, 13):
            identity = {"id": number, "user_id": 1, "provider": "p", "issuer": "i", "subject": str(number)}
            values = dict[str, object](identity) | {"digest": str(number), "created_at": now}
            await connection.execute(insert(table("user_identities", *map(column, values))).values(values))
        for duplicate_id, moved in merges:
            values = {"primary_id": 1, "duplicate_id": duplicate_id, "merged_at": now, "merged_by": "ann"}
            row = values | {"moved": json.dumps(moved)}
            await connection.execute(insert(table("user_merges", *map(column, row))).values(row))
    await migrate(migrated_url)
    await stamp(migrated_url, "0050")
    await migrate(migrated_url)  # it may have been cut off
    async with connected(migrated_url) as connection:
        query = "SELECT id, email, merged_email, role, merged_into, username FROM users ORDER BY id"
        rows = [tuple(row) for row in await connection.execute(text(query))]
        owners = list(await connection.scalars(text("SELECT user_id FROM user_identities ORDER BY id")))
        records = list(await connection.scalars(text("SELECT moved FROM user_merges")))
    assert rows == [
        (1, "none:1", None, "admin", None, "a"),
        (2, "merged:2", "b@example.com", "performer", 1, "b"),
        (3, "merged:3", "c@example.com", "user", 1, "c"),
    ]
    assert (owners, records) == ([1, 2, 3], ["{}", "{}"])
