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


async def kept(
    database: Database,
    name: str,
    at: datetime = NOW,
    expires_at: datetime | None = None,
    provider: str = SHAREGRAM,
) -> None:
    async with database.transaction() as tx:
        of = await integrations.ensure(tx, provider, NOW)
        await webhook_secrets.add(tx, of, name, b"sealed " + name.encode(), at, expires_at)


async def used(database: Database, name: str, at: datetime) -> None:
    note = webhook_secrets.record_environment_use if name.startswith("env-") else webhook_secrets.record_use
    async with database.transaction() as tx:
        await note(tx, await integrations.ensure(tx, SHAREGRAM, NOW), name, at)


async def valid(database: Database, now: datetime = NOW) -> list[EncryptedSecret]:
    async with database.read_connection() as reading:
        return list(await webhook_secrets.valid(reading, SHAREGRAM, now))


async def listed(database: Database) -> list[SecretRow]:
    async with database.read_connection() as reading:
        return list(await webhook_secrets.listed(reading, SHAREGRAM))


async def test_an_integration_is_made_once_and_not_enabled(database: Database) -> None:
    async def ensure() -> int:
        async with database.transaction() as tx:
            return await integrations.ensure(tx, SHAREGRAM, NOW)

    first = await asyncio.gather(*(ensure() for _ in range(4)))
    async with database.transaction() as tx:
        other = await integrations.ensure(tx, "another", NOW)
    assert set(first) == {await ensure()}
    assert other not in first


async def test_a_secret_is_kept_as_it_was_sealed_with_the_newest_first(database: Database) -> None:
    await kept(database, "old", NOW - DAY, NOW + DAY)
    await kept(database, "new")
    await kept(database, "theirs", provider="another")
    new, old = await valid(database)
    assert (new.name, new.ciphertext, new.expires_at) == ("new", b"sealed new", None)
    assert (old.name, old.ciphertext, old.expires_at) == ("old", b"sealed old", NOW + DAY)
    assert "sealed" not in repr(new)


async def test_an_expired_secret_counts_no_more_and_is_still_listed(database: Database) -> None:
    await kept(database, "old", NOW - DAY, NOW)
    assert [secret.name for secret in await valid(database, NOW - timedelta(microseconds=1))] == ["old"]
    assert await valid(database, NOW) == []
    assert await listed(database) == [SecretRow("old", True, NOW - DAY, NOW, None)]


async def test_no_more_than_a_bounded_number_counts_and_those_are_the_newest(database: Database) -> None:
    for place in range(MAX_VALID + 1):
        await kept(database, f"s{place}", NOW + place * MINUTE)
    assert [secret.name for secret in await valid(database)] == [f"s{place}" for place in range(MAX_VALID, 0, -1)]


async def test_a_use_is_noted_and_never_goes_back_in_time(database: Database) -> None:
    await kept(database, "new")
    for minutes, noted in ((1, 1), (3, 3), (2, 3)):
        await used(database, "new", NOW + minutes * MINUTE)
        (secret,) = await listed(database)
        assert secret.last_used_at == NOW + noted * MINUTE


async def test_a_secret_of_the_environment_is_listed_from_its_first_use_and_never_counts(database: Database) -> None:
    for minutes, noted in ((1, 1), (3, 3), (2, 3)):
        await used(database, "env-0a1b2c", NOW + minutes * MINUTE)
        assert await listed(database) == [SecretRow("env-0a1b2c", False, NOW + MINUTE, None, NOW + noted * MINUTE)]
    assert await valid(database) == []


async def test_a_use_of_a_secret_that_was_deleted_brings_nothing_back(database: Database) -> None:
    await used(database, "gone", NOW)
    assert await listed(database) == []


async def test_a_name_belongs_to_one_secret_of_a_provider(database: Database) -> None:
    await kept(database, "new")
    await kept(database, "new", provider="another")
    with pytest.raises(DatabaseConflict):
        await kept(database, "new")


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "a\n", "A", "-a", "env-0a1b2c"])
async def test_an_improper_name_is_refused(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 lower-case"):
        await kept(database, name)
