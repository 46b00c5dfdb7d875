"""The ring follows the database, and does without it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.encryption import Cipher
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS, FakeClock, eventually, running_task
from webhook_ingest.secrets import KeyRing, SecretRefresher

Keep = Callable[..., Awaitable[None]]
Lines = Callable[[], list[str]]
Refreshing = Callable[..., SecretRefresher]
HOUR = 3600.0
SECOND = timedelta(seconds=1)
ON_MYSQL = pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)


@pytest.fixture
def refreshing(ring: KeyRing, clock: FakeClock, cipher: Cipher, log: FilteringBoundLogger) -> Refreshing:
    """Refreshes the ring once an hour, and as soon as it is asked to."""

    def refreshing(
        database: Database, *, seconds: float = HOUR, least_seconds: float = 0.01, with_cipher: Cipher = cipher
    ) -> SecretRefresher:
        return SecretRefresher(
            ring, database, with_cipher, clock=clock, log=log, seconds=seconds, least_seconds=least_seconds
        )

    return refreshing


@pytest.fixture
def names(ring: KeyRing, clock: FakeClock) -> Callable[[], list[str]]:
    """The names of those of the database that count now."""
    return lambda: [secret.name for secret in ring.at(clock.now) if not ring.is_of_environment(secret.name)]


def shows(names: Callable[[], list[str]], *wanted: str) -> Callable[[], Awaitable[bool]]:
    async def shown() -> bool:
        return names() == list(wanted)

    return shown


def is_told(lines: Lines) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        return any("not refreshed" in line for line in lines())

    return told


async def test_what_the_database_keeps_counts_from_the_first_look_on_with_the_newest_first(
    database: Database,
    keep: Keep,
    refreshing: Refreshing,
    ring: KeyRing,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    await keep("old", b"the-old-secret")
    clock.advance(SECOND)
    await keep("new", b"the-new-secret")
    async with running_task(refreshing(database).run()):
        await eventually(shows(names, "new", "old"))
    assert [secret.key for secret in ring.at(clock.now)[:2]] == [b"the-new-secret", b"the-old-secret"]
    assert ring.at(clock.now)[2].key == b"the-secret-of-the-environment"


async def test_a_new_secret_counts_soon_after_somebody_said_so(
    database: Database, keep: Keep, refreshing: Refreshing, ring: KeyRing, names: Callable[[], list[str]]
) -> None:
    async with running_task(refreshing(database).run()):
        await keep("new")
        ring.refresh_soon()
        await eventually(shows(names, "new"))


async def test_a_new_secret_counts_by_and_by_without_anybody_saying_so(
    database: Database, keep: Keep, refreshing: Refreshing, names: Callable[[], list[str]]
) -> None:
    async with running_task(refreshing(database, seconds=0.05).run()):
        await eventually(shows(names))
        await keep("new")
        await eventually(shows(names, "new"))


async def test_a_flood_of_wishes_leads_to_few_looks(
    database: Database, refreshing: Refreshing, ring: KeyRing, clock: FakeClock
) -> None:
    looks_a_second, times_asked_a_look, began = 5, 2, monotonic()
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        running_task(refreshing(database, least_seconds=1 / looks_a_second).run()),
    ):
        while clock.asked <= 4 * times_asked_a_look:
            ring.refresh_soon()
            await asyncio.sleep(0)
    assert clock.asked <= times_asked_a_look * (looks_a_second * (monotonic() - began) + 1)


async def test_a_secret_that_is_given_an_end_or_taken_away_counts_no_more(
    database: Database,
    keep: Keep,
    refreshing: Refreshing,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    refresh = refreshing(database)
    await keep("old", lasts=60 * SECOND)
    await keep("older")
    await refresh.refresh()
    assert names() == ["older", "old"]
    async with database.transaction() as tx:
        await tx.execute(text("DELETE FROM webhook_secrets WHERE name = 'older'"))
    await refresh.refresh()
    assert names() == ["old"]
    clock.advance(60 * SECOND)
    assert names() == []


async def test_a_row_that_cannot_be_read_costs_itself_alone_and_one_line(
    database: Database,
    keep: Keep,
    refreshing: Refreshing,
    names: Callable[[], list[str]],
    lines: Lines,
    encryption_key: str,
) -> None:
    await keep("good")
    await keep("foreign", sealed=Cipher.from_key(Fernet.generate_key().decode()).encrypt(b"sealed-elsewhere"))
    await keep("damaged", sealed=b"\xff not a token")
    await keep("improper", b"whsec_no-base64-at-all")
    await keep("empty", b"")
    refresh = refreshing(database)
    await refresh.refresh()
    await refresh.refresh()
    assert names() == ["good"]
    errors = [line for line in lines() if "SECRET_UNREADABLE" in line]
    assert len(errors) == 4
    assert {word for line in errors for word in line.split() if word.startswith("key=")} == {
        "key=foreign",
        "key=damaged",
        "key=improper",
        "key=empty",
    }
    assert not any(part in "".join(errors) for part in ("no-base64", "token", "sealed-elsewhere", encryption_key))


async def test_a_row_that_cannot_be_read_any_more_goes_on_with_its_last_known_value(
    database: Database,
    keep: Keep,
    refreshing: Refreshing,
    ring: KeyRing,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    await keep("new", lasts=60 * SECOND)
    refresh = refreshing(database)
    await refresh.refresh()
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE webhook_secrets SET ciphertext = 'written under another key'"))
    await refresh.refresh()
    assert ring.at(clock.now)[0].key == b"a-secret-of-the-database"
    clock.advance(60 * SECOND)
    assert names() == []


async def test_a_secret_under_an_old_encryption_key_is_read_as_long_as_that_key_is_given(
    database: Database, keep: Keep, refreshing: Refreshing, names: Callable[[], list[str]], encryption_key: str
) -> None:
    await keep("new")
    rotated = Cipher.from_key(f"{Fernet.generate_key().decode()},{encryption_key}")
    await refreshing(database, with_cipher=rotated).refresh()
    assert names() == ["new"]


@ON_MYSQL
@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_with_the_database_away_the_last_known_set_goes_on_and_still_expires(
    database_url: str,
    keep: Keep,
    refreshing: Refreshing,
    names: Callable[[], list[str]],
    mysql_server: RunningServer,
    lines: Lines,
    clock: FakeClock,
    trouble: str,
) -> None:
    await keep("old", lasts=60 * SECOND)
    await keep("new")
    async with (
        Database.open(database_url, timeout=1.0) as impatient,
        running_task(refreshing(impatient, seconds=0.05).run()),
    ):
        await eventually(shows(names, "new", "old"))
        with getattr(mysql_server, trouble)():
            await eventually(is_told(lines))
            assert names() == ["new", "old"]
            clock.advance(60 * SECOND)
            assert names() == ["new"]
        await keep("newest")
        await eventually(shows(names, "newest", "new"))
    (line,) = (line for line in lines() if "not refreshed" in line)  # one an outage, not one a look
    assert "SERVICE_UNAVAILABLE" in line


async def test_it_starts_without_the_database_and_with_the_secrets_of_the_environment(
    refreshing: Refreshing, ring: KeyRing, clock: FakeClock, lines: Lines
) -> None:
    nowhere = f"mysql+aiomysql://nobody:a-password@127.0.0.1:{free_port()}/x"
    async with Database.open(nowhere, timeout=1.0) as away, running_task(refreshing(away).run()):
        await eventually(is_told(lines))
        assert [secret.key for secret in ring.at(clock.now)] == [b"the-secret-of-the-environment"]
    assert "a-password" not in "".join(lines())


async def test_it_starts_before_the_first_migration_and_takes_the_others_up_later(
    fresh_sqlite_url: str,
    refreshing: Refreshing,
    names: Callable[[], list[str]],
    lines: Lines,
    cipher: Cipher,
    clock: FakeClock,
) -> None:
    async with Database.open(fresh_sqlite_url) as database, running_task(refreshing(database, seconds=0.05).run()):
        await eventually(is_told(lines))
        await migrate(fresh_sqlite_url)
        async with database.transaction() as tx:
            sealed = cipher.encrypt(b"a-secret-of-the-database")
            values = {"sealed": sealed, "at": str(clock.now.replace(tzinfo=None))}
            await tx.execute(text("INSERT INTO integrations VALUES (1, 'sharegram', 0, :at, :at)"), values)
            await tx.execute(text("INSERT INTO webhook_secrets VALUES (1, 1, 'new', :sealed, :at, NULL, NULL)"), values)
        await eventually(shows(names, "new"))
