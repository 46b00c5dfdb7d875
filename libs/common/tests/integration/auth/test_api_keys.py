"""API keys, on both engines."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import ApiKey, Role, RotatedKey
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import api_keys as table

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
DAY = timedelta(days=1)


async def made(
    database: Database, client: str = "ops", role: Role = Role.ADMIN, expires_at: datetime | None = None
) -> str:
    async with database.transaction() as tx:
        return await api_keys.create(tx, client, role, NOW, expires_at)


async def found(database: Database, client: str, key: str, now: datetime = NOW) -> ApiKey | None:
    async with database.read_connection() as reading:
        return await api_keys.find(reading, client, key, now)


async def only(database: Database) -> ApiKey:
    async with database.read_connection() as reading:
        (key,) = await api_keys.all_keys(reading)
        return key


async def test_find_returns_a_key_for_its_client_with_its_role(database: Database) -> None:
    key = await made(database, role=Role.MODERATOR)
    opened = await found(database, "ops", key)
    assert opened == ApiKey(opened.id if opened else 0, "ops", Role.MODERATOR, NOW, None, None, None)
    assert await found(database, "other", key) is None
    assert await found(database, "ops", key[:-1]) is None
    assert await found(database, "ops", "") is None
    assert await found(database, "ops", "\udcff") is None


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"), str.lower, lambda key: key + "\n"]
)
async def test_a_key_with_a_wrong_checksum_is_refused_without_a_query(
    database: Database, change: Callable[[str], str]
) -> None:
    key = await made(database)
    assert api_keys.is_well_formed(key)
    assert re.fullmatch(r"safevideo_[0-9A-Za-z]{49}", key)
    assert not api_keys.is_well_formed(change(key))
    assert await found(database, "ops", change(key)) is None


async def test_of_two_rotations_at_once_one_succeeds(database: Database) -> None:
    old = await made(database, expires_at=NOW + 90 * DAY)
    key_id = (await only(database)).id

    async def rotate(after: timedelta) -> RotatedKey | None:
        async with database.transaction() as tx:
            return await api_keys.rotate(tx, key_id, NOW + after, DAY)

    results = await asyncio.gather(rotate(timedelta()), rotate(timedelta(seconds=1)))
    (rotated,) = [each for each in results if each]
    assert rotated.key.expires_at == rotated.key.created_at + 90 * DAY
    assert await found(database, "ops", rotated.secret, NOW + 60 * DAY)
    assert await found(database, "ops", old, rotated.old_expires_at - timedelta(seconds=1))
    assert await found(database, "ops", old, rotated.old_expires_at) is None


async def test_find_accepts_both_keys_of_a_client_during_a_rotation(database: Database) -> None:
    old, new = await made(database), await made(database)
    assert old != new
    assert await found(database, "ops", old)
    assert await found(database, "ops", new)


async def test_key_table_has_only_the_hash(database: Database) -> None:
    key = await made(database)
    async with database.read_connection() as reading:
        (row,) = (await reading.execute(select(table))).all()
    assert not any(key in str(value) or key.removeprefix(api_keys.PREFIX) in str(value) for value in row)


async def test_expired_key_is_invalid_and_still_listed(database: Database) -> None:
    key = await made(database, expires_at=NOW + DAY)
    assert await found(database, "ops", key, NOW + DAY - timedelta(microseconds=1))
    assert await found(database, "ops", key, NOW + DAY) is None
    assert (await only(database)).expires_at == NOW + DAY


async def test_revoke_invalidates_a_key_once(database: Database) -> None:
    key = await made(database)
    number = (await only(database)).id
    async with database.transaction() as tx:
        assert await api_keys.revoke(tx, number, NOW)
        assert not await api_keys.revoke(tx, number, NOW + DAY)
        assert not await api_keys.revoke(tx, number + 1, NOW)
    assert await found(database, "ops", key) is None
    assert (await only(database)).revoked_at == NOW


async def test_touch_writes_at_most_once_per_minute(database: Database) -> None:
    await made(database)
    number = (await only(database)).id
    for seconds, noted in ((0, 0), (59, 0), (60, 60), (61, 60)):
        async with database.transaction() as tx:
            await api_keys.touch(tx, number, NOW + timedelta(seconds=seconds))
        assert (await only(database)).last_used_at == NOW + timedelta(seconds=noted)


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "a\n"])
async def test_create_rejects_an_invalid_client_name(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        await made(database, client=name)
