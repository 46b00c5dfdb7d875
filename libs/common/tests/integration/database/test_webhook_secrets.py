"""Integrations and webhook secrets, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import DatabaseConflict
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import MAX_VALID, EncryptedSecret, SecretRow

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


async def store_secret(
    database: Database,
    name: str,
    at: datetime = NOW,
    expires_at: datetime | None = None,
    provider: str = SHAREGRAM,
) -> None:
    async with database.transaction() as tx:
        integration = await integrations.ensure(tx, provider, NOW)
        await webhook_secrets.add(tx, integration, name, b"encrypted " + name.encode(), at, expires_at)


async def record_use(database: Database, name: str, at: datetime) -> None:
    record = webhook_secrets.record_environment_use if name.startswith("env-") else webhook_secrets.record_use
    async with database.transaction() as tx:
        await record(tx, await integrations.ensure(tx, SHAREGRAM, NOW), name, at)


async def find_valid(database: Database, now: datetime = NOW) -> list[EncryptedSecret]:
    async with database.read_connection() as reading:
        return list(await webhook_secrets.find_valid(reading, SHAREGRAM, now))


async def find_all(database: Database) -> list[SecretRow]:
    async with database.read_connection() as reading:
        return list(await webhook_secrets.find_all(reading, SHAREGRAM))


async def test_integration_is_created_once(database: Database) -> None:
    async def ensure() -> int:
        async with database.transaction() as tx:
            return await integrations.ensure(tx, SHAREGRAM, NOW)

    first = await asyncio.gather(*(ensure() for _ in range(4)))
    async with database.transaction() as tx:
        other = await integrations.ensure(tx, "another", NOW)
    assert set(first) == {await ensure()}
    assert other not in first


async def test_secrets_store_returns_valid_secrets_newest_first(database: Database) -> None:
    await store_secret(database, "old", NOW - DAY, NOW + DAY)
    await store_secret(database, "new")
    await store_secret(database, "theirs", provider="another")
    new, old = await find_valid(database)
    assert (new.name, new.ciphertext, new.expires_at) == ("new", b"encrypted new", None)
    assert (old.name, old.ciphertext, old.expires_at) == ("old", b"encrypted old", NOW + DAY)
    assert "encrypted" not in repr(new)


async def test_secrets_store_lists_expired_secret_and_treats_it_as_invalid(database: Database) -> None:
    await store_secret(database, "old", NOW - DAY, NOW)
    assert [secret.name for secret in await find_valid(database, NOW - timedelta(microseconds=1))] == ["old"]
    assert await find_valid(database, NOW) == []
    assert await find_all(database) == [SecretRow("old", True, NOW - DAY, NOW, None)]


async def test_secrets_store_bounds_valid_secrets_to_the_newest(database: Database) -> None:
    for number in range(MAX_VALID + 1):
        await store_secret(database, f"s{number}", NOW + number * MINUTE)
    assert [secret.name for secret in await find_valid(database)] == [
        f"s{number}" for number in range(MAX_VALID, 0, -1)
    ]


async def test_secrets_store_keeps_the_latest_use(database: Database) -> None:
    await store_secret(database, "new")
    for minutes, recorded in ((1, 1), (3, 3), (2, 3)):
        await record_use(database, "new", NOW + minutes * MINUTE)
        (secret,) = await find_all(database)
        assert secret.last_used_at == NOW + recorded * MINUTE


async def test_secrets_store_lists_environment_secret_from_first_use(database: Database) -> None:
    for minutes, recorded in ((1, 1), (3, 3), (2, 3)):
        await record_use(database, "env-0a1b2c", NOW + minutes * MINUTE)
        assert await find_all(database) == [SecretRow("env-0a1b2c", False, NOW + MINUTE, None, NOW + recorded * MINUTE)]
    assert await find_valid(database) == []


async def test_secrets_store_ignores_use_of_deleted_secret(database: Database) -> None:
    await record_use(database, "gone", NOW)
    assert await find_all(database) == []


async def test_secrets_store_rejects_duplicate_name_of_a_provider(database: Database) -> None:
    await store_secret(database, "new")
    await store_secret(database, "new", provider="another")
    with pytest.raises(DatabaseConflict):
        await store_secret(database, "new")


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "a\n", "A", "-a", "env-0a1b2c"])
async def test_secrets_store_rejects_invalid_name(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 lower-case"):
        await store_secret(database, name)
