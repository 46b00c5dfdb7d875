"""The mirror of performers, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import LockedPerformer, StoredPerformer
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, FIELDS, Performer
from safevideo_common.errors import DatabaseConflict, DataRejected

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
FULL = Performer(
    "sg_1",
    {
        "username": "zoë",
        "display_name": "Zoë 🎬 'quoted' \\ 100% %(name)s",
        "email": "zoe@example.com",
        "profile_image": "https://cdn.example.com/a.jpg?x=1&y=%20",
        "bio": "line\nline\ttab\x00nul " + "é" * 10_000,
        "verified": True,
        "status": "active",
    },
    {
        "username": WriteVersion(7, 1_764_018_000_000_001, 2**62),
        "status": WriteVersion(None, -1),
        "bio": WriteVersion(2**63 - 1, 32_503_680_000_000_000),
    },
)
BARE = Performer("sg_2")


async def store(database: Database, *new: Performer) -> None:
    async with database.transaction() as tx:
        await performers.insert_new(tx, new, NOW)


async def stored(database: Database, sharegram_id: str) -> StoredPerformer:
    async with database.transaction() as tx:
        found = await performers.get(tx, (await performers.load_for_update(tx, [sharegram_id]))[sharegram_id].id)
    assert found is not None
    return found


async def test_load_returns_an_inserted_performer_exactly(database: Database) -> None:
    await store(database, FULL, BARE)
    found = await stored(database, "sg_1")
    assert (found.performer, found.created_at, found.updated_at) == (FULL, NOW, NOW)
    assert found.created_at.tzinfo is UTC
    assert (await stored(database, "sg_2")).performer.fields == {**dict.fromkeys(FIELDS), **DEFAULTS}


async def test_load_returns_verified_as_a_boolean(database: Database) -> None:
    await store(database, FULL, BARE)
    flags = [(await stored(database, each)).performer.fields["verified"] for each in ("sg_1", "sg_2")]
    assert flags[0] is True
    assert flags[1] is False


async def test_load_returns_only_existing_performers(database: Database) -> None:
    await store(database, BARE)
    async with database.transaction() as tx:
        assert set(await performers.load_for_update(tx, ["sg_1", "sg_2", "sg_2"])) == {"sg_2"}
        assert await performers.load_for_update(tx, []) == {}


async def test_ids_with_different_case_or_accents_are_different_performers(database: Database) -> None:
    await store(database, Performer("sg_a"), Performer("sg_A"))
    async with database.transaction() as tx:
        assert set(await performers.load_for_update(tx, ["sg_a"])) == {"sg_a"}


async def test_load_accepts_more_ids_than_one_statement(database: Database) -> None:
    many = [f"sg_{number}" for number in range(1_201)]
    await store(database, *map(Performer, many))
    async with database.transaction() as tx:
        assert set(await performers.load_for_update(tx, many)) == set(many)


async def test_update_writes_every_field_except_created_at(database: Database) -> None:
    await store(database, FULL, BARE)
    before = await stored(database, "sg_1")
    changed = Performer("sg_1", {**FULL.fields, "bio": None, "verified": False}, {"bio": WriteVersion(8, 9)})
    async with database.transaction() as tx:
        await performers.update(tx, [LockedPerformer(before.id, changed)], LATER)
    after = await stored(database, "sg_1")
    assert after == StoredPerformer(before.id, changed, NOW, LATER)
    assert (await stored(database, "sg_2")).updated_at == NOW


async def test_update_writes_many_performers_with_own_values(database: Database) -> None:
    await store(database, *(Performer(f"sg_{number}") for number in range(700)))
    async with database.transaction() as tx:
        loaded = await performers.load_for_update(tx, [f"sg_{number}" for number in range(700)])
        changed = [
            each._replace(performer=Performer(name, {**DEFAULTS, "username": f"user of {name}"}))
            for name, each in loaded.items()
        ]
        await performers.update(tx, changed, LATER)
    async with database.transaction() as tx:
        after = await performers.load_for_update(tx, loaded)
    assert {name: each.performer.fields["username"] for name, each in after.items()} == {
        name: f"user of {name}" for name in loaded
    }


async def test_update_without_performers_sends_no_statement(database: Database) -> None:
    async with database.transaction() as tx:
        await performers.insert_new(tx, [], NOW)
        await performers.update(tx, [], NOW)


async def test_performer_is_found_by_either_id(database: Database) -> None:
    await store(database, FULL)
    async with database.read_connection() as reading:
        number = await performers.id_of(reading, "sg_1")
        assert number is not None
        found = await performers.get(reading, number)
        assert found is not None
        assert found.performer == FULL
        assert await performers.get(reading, number + 1) is None
        assert await performers.id_of(reading, "sg_3") is None


async def test_insert_new_raises_database_conflict_for_an_existing_performer(database: Database) -> None:
    await store(database, BARE)
    with pytest.raises(DatabaseConflict):
        await store(database, FULL, BARE)
    async with database.read_connection() as reading:
        assert await performers.id_of(reading, "sg_1") is None, "nothing of a failed transaction is kept"


async def test_concurrent_writers_of_one_performer_lose_no_write(database: Database) -> None:
    await store(database, BARE)

    async def add(field: str) -> None:
        async with database.transaction() as tx:
            found = (await performers.load_for_update(tx, ["sg_2"]))["sg_2"]
            await asyncio.sleep(0)
            after = found.performer._replace(fields={**found.performer.fields, field: field})
            await performers.update(tx, [found._replace(performer=after)], LATER)

    await asyncio.gather(add("username"), add("display_name"), add("bio"))
    fields = (await stored(database, "sg_2")).performer.fields
    assert [fields[name] for name in ("username", "display_name", "bio")] == ["username", "display_name", "bio"]


async def test_insert_new_raises_data_rejected_for_an_invalid_value(database: Database) -> None:
    with pytest.raises(DataRejected):
        await store(database, Performer("sg_1", {**DEFAULTS, "status": None}))
    with pytest.raises(DataRejected):
        await store(database, Performer("sg_1", {**DEFAULTS, "bio": "half a pair: \ud83c"}))
