"""API keys over time: what is remembered, for how long, and how their use is noted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from sqlalchemy import text

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.authenticator import CACHE_SECONDS, ApiKeyAuthenticator
from safevideo_common.auth.principal import Principal
from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable, Unauthorized
from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_testkit.eventually import DEADLINE_SECONDS

Headers = CIMultiDictProxy[str]
SECOND = timedelta(seconds=1)
REFUSE_UPDATES_OF_THE_FIRST = """
    CREATE TRIGGER refuse BEFORE UPDATE ON api_keys WHEN NEW.id = 1 BEGIN SELECT RAISE(ABORT, 'no'); END
"""


class MovableClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def database(migrated_sqlite_url: str) -> AsyncIterator[Database]:
    async with Database.open(migrated_sqlite_url, timeout=DEADLINE_SECONDS) as database:
        yield database


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
async def keys(database: Database, clock: MovableClock, logs: Path) -> AsyncIterator[ApiKeyAuthenticator]:
    sink = LogSink(logs, stdout=False)
    authenticator = ApiKeyAuthenticator(database, clock, build_logger("test", sink))
    noting = asyncio.create_task(authenticator.write_uses())
    yield authenticator
    noting.cancel()
    await asyncio.wait([noting])
    sink.close()


async def new_key(database: Database, clock: MovableClock, expires_at: datetime | None = None) -> Headers:
    async with database.transaction() as tx:
        secret = await api_keys.create(tx, "console", Role.MODERATOR, clock.now, expires_at)
    return CIMultiDictProxy(CIMultiDict({"X-API-Client": "console", "X-API-Key": secret}))


async def revoke(database: Database, clock: MovableClock) -> None:
    async with database.transaction() as tx:
        await api_keys.revoke(tx, 1, clock.now)


async def last_used(database: Database) -> datetime | None:
    async with database.read_connection() as connection:
        (key,) = await api_keys.all_keys(connection)
    return key.last_used_at


async def used_at(database: Database, moment: datetime) -> None:
    """Return once the use at `moment` is noted."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await last_used(database) != moment:
            pass


async def new_second_key(database: Database, clock: MovableClock) -> Headers:
    async with database.transaction() as tx:
        secret = await api_keys.create(tx, "other", Role.USER, clock.now)
    return CIMultiDictProxy(CIMultiDict({"X-API-Client": "other", "X-API-Key": secret}))


async def noted(database: Database, client: str) -> datetime:
    """When this client's key was last used, once that is noted."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            async with database.read_connection() as connection:
                found = {key.client: key.last_used_at for key in await api_keys.all_keys(connection)}
            if (at := found[client]) is not None:
                return at


async def test_authenticator_returns_client_and_role_of_a_key(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    assert await keys.authenticate(headers) == Principal("console", Role.MODERATOR)


async def test_authenticator_rejects_a_revoked_key_when_its_cache_entry_expires(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    await keys.authenticate(headers)
    await revoke(database, clock)
    clock.now += CACHE_SECONDS - SECOND
    await keys.authenticate(headers)
    clock.now += SECOND
    with pytest.raises(Unauthorized):
        await keys.authenticate(headers)


async def test_authenticator_rejects_a_cached_key_after_its_expiry(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock, expires_at=clock.now + SECOND)
    await keys.authenticate(headers)
    clock.now += SECOND
    with pytest.raises(Unauthorized):
        await keys.authenticate(headers)


async def test_authenticator_ignores_cache_entries_after_the_clock_was_set_back(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    await keys.authenticate(headers)
    await revoke(database, clock)
    clock.now -= timedelta(hours=1)
    with pytest.raises(Unauthorized):
        await keys.authenticate(headers)


async def test_authenticator_raises_database_unavailable_during_an_outage(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    await keys.authenticate(headers)
    await used_at(database, clock.now)
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE api_keys"))
    await keys.authenticate(headers)
    clock.now += CACHE_SECONDS
    with pytest.raises(DatabaseUnavailable):
        await keys.authenticate(headers)


async def test_authenticator_records_the_use_of_a_key_at_most_once_per_minute(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    began = clock.now
    await keys.authenticate(headers)
    await used_at(database, began)
    for seconds in (20, 40, 59):
        clock.now = began + seconds * SECOND
        await keys.authenticate(headers)
    other = await new_second_key(database, clock)
    await keys.authenticate(other)  # its note is written after all that came before
    await noted(database, "other")
    assert await noted(database, "console") == began
    clock.now = began + 60 * SECOND + CACHE_SECONDS  # from the minute on, its next look-up notes it
    await keys.authenticate(headers)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await noted(database, "console") != clock.now:
            pass


async def test_authenticator_accepts_keys_while_the_database_is_read_only(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock
) -> None:
    headers = await new_key(database, clock)
    async with database.transaction():  # holds SQLite's only lock for writers
        async with asyncio.timeout(DEADLINE_SECONDS / 2):
            await keys.authenticate(headers)
        assert await last_used(database) is None
    await used_at(database, clock.now)


async def test_authenticator_logs_a_failed_use_and_writes_the_next(
    keys: ApiKeyAuthenticator, database: Database, clock: MovableClock, logs: Path
) -> None:
    headers = await new_key(database, clock)
    other = await new_second_key(database, clock)
    async with database.transaction() as tx:
        await tx.execute(text(REFUSE_UPDATES_OF_THE_FIRST))
    await keys.authenticate(headers)
    await keys.authenticate(other)
    assert await noted(database, "other") == clock.now
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (logs / "app.log").exists() or not (logs / "app.log").read_text():
            await asyncio.sleep(0)
    (line,) = (logs / "app.log").read_text().splitlines()
    assert "Use of API key not recorded" in line
    assert headers["X-API-Key"] not in line
