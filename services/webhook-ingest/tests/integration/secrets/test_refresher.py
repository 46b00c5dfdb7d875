"""The refresher follows the database, and works without it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic

import pytest
from aiohttp.test_utils import unused_port
from cryptography.fernet import Fernet
from sqlalchemy import text

from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.migrate import migrate
from safevideo_common.encryption import Cipher, EncryptionKeys, Purpose
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.eventually import FakeClock, eventually, running_task
from webhook_ingest.secrets import KeyRing, SecretRefresher

StoreSecret = Callable[..., Awaitable[None]]
Lines = Callable[[], list[str]]
MakeRefresher = Callable[..., SecretRefresher]
HOUR = 3600.0
SECOND = timedelta(seconds=1)
ON_MYSQL = pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)


@pytest.fixture
def make_refresher(ring: KeyRing, clock: FakeClock, cipher: Cipher, log: FilteringBoundLogger) -> MakeRefresher:
    """Makes a refresher that runs once an hour, and soon after each request."""

    def make_refresher(
        database: Database, *, seconds: float = HOUR, min_seconds: float = 0.01, with_cipher: Cipher = cipher
    ) -> SecretRefresher:
        return SecretRefresher(
            ring, database, with_cipher, clock=clock, logger=log, seconds=seconds, min_seconds=min_seconds
        )

    return make_refresher


@pytest.fixture
def names(ring: KeyRing, clock: FakeClock) -> Callable[[], list[str]]:
    """Returns the names of the active secrets of the database."""
    return lambda: [secret.name for secret in ring.active_at(clock.now) if not ring.is_from_environment(secret.name)]


def are(names: Callable[[], list[str]], *expected: str) -> Callable[[], Awaitable[bool]]:
    async def matches() -> bool:
        return names() == list(expected)

    return matches


def has_logged(lines: Lines) -> Callable[[], Awaitable[bool]]:
    async def logged() -> bool:
        return any("not refreshed" in line for line in lines())

    return logged


async def test_refresher_loads_stored_secrets_newest_first(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    ring: KeyRing,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    await store_secret("old", b"the-old-secret")
    clock.advance(SECOND)
    await store_secret("new", b"the-new-secret")
    async with running_task(make_refresher(database).run()):
        await eventually(are(names, "new", "old"))
    assert [secret.key for secret in ring.active_at(clock.now)[:2]] == [b"the-new-secret", b"the-old-secret"]
    assert ring.active_at(clock.now)[2].key == b"the-secret-of-the-environment"


async def test_refresher_loads_new_secret_soon_after_request(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    ring: KeyRing,
    names: Callable[[], list[str]],
) -> None:
    async with running_task(make_refresher(database).run()):
        await store_secret("new")
        ring.request_refresh()
        await eventually(are(names, "new"))


async def test_refresher_loads_new_secret_without_request(
    database: Database, store_secret: StoreSecret, make_refresher: MakeRefresher, names: Callable[[], list[str]]
) -> None:
    async with running_task(make_refresher(database, seconds=0.05).run()):
        await eventually(are(names))
        await store_secret("new")
        await eventually(are(names, "new"))


async def test_refresher_limits_queries_in_a_flood_of_requests(
    database: Database, make_refresher: MakeRefresher, ring: KeyRing, clock: FakeClock
) -> None:
    queries_per_second, started = 5, monotonic()
    async with running_task(make_refresher(database, min_seconds=1 / queries_per_second).run()):
        while monotonic() - started < 1 or clock.calls <= 2:
            ring.request_refresh()
            await asyncio.sleep(0)
    clock_reads_per_query = 2
    assert (
        clock_reads_per_query
        < clock.calls
        <= clock_reads_per_query * (queries_per_second * (monotonic() - started) + 1)
    )


async def test_refresher_drops_expired_and_deleted_secrets(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    refresh = make_refresher(database)
    await store_secret("old", lasts=60 * SECOND)
    await store_secret("older")
    await refresh.refresh()
    assert names() == ["older", "old"]
    async with database.transaction() as tx:
        await tx.execute(text("DELETE FROM webhook_secrets WHERE name = 'older'"))
    await refresh.refresh()
    assert names() == ["old"]
    clock.advance(60 * SECOND)
    assert names() == []


async def test_refresher_skips_unreadable_row_and_logs_it_once(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    names: Callable[[], list[str]],
    lines: Lines,
    encryption_key: str,
) -> None:
    await store_secret("good")
    stranger = EncryptionKeys.parse(Fernet.generate_key().decode()).cipher(Purpose.WEBHOOK_SECRET)
    await store_secret("foreign", ciphertext=stranger.encrypt(b"sealed-elsewhere", "sharegram/foreign"))
    quarantined = EncryptionKeys.parse(encryption_key).cipher(Purpose.QUARANTINED_WEBHOOK)
    await store_secret("copied", ciphertext=quarantined.encrypt(b"sealed-elsewhere", "sharegram/copied"))
    await store_secret("damaged", ciphertext=b"\xff not a token")
    await store_secret("improper", b"whsec_no-base64-at-all")
    await store_secret("empty", b"")
    refresh = make_refresher(database)
    await refresh.refresh()
    await refresh.refresh()
    assert names() == ["good"]
    errors = [line for line in lines() if "SECRET_UNREADABLE" in line]
    assert len(errors) == 5
    assert {word for line in errors for word in line.split() if word.startswith("key=")} == {
        "key=foreign",
        "key=copied",
        "key=damaged",
        "key=improper",
        "key=empty",
    }
    assert not any(part in "".join(errors) for part in ("no-base64", "token", "sealed-elsewhere", encryption_key))


async def test_refresher_keeps_loaded_value_of_row_that_becomes_unreadable(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    ring: KeyRing,
    names: Callable[[], list[str]],
    clock: FakeClock,
) -> None:
    await store_secret("new", lasts=60 * SECOND)
    refresh = make_refresher(database)
    await refresh.refresh()
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE webhook_secrets SET ciphertext = X'00010203'"))
    await refresh.refresh()
    assert ring.active_at(clock.now)[0].key == b"a-secret-of-the-database"
    clock.advance(60 * SECOND)
    assert names() == []


async def test_refresher_reads_secret_under_old_encryption_key(
    database: Database,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    names: Callable[[], list[str]],
    encryption_key: str,
) -> None:
    await store_secret("new")
    rotated = EncryptionKeys.parse(f"{Fernet.generate_key().decode()},{encryption_key}")
    await make_refresher(database, with_cipher=rotated.cipher(Purpose.WEBHOOK_SECRET)).refresh()
    assert names() == ["new"]


@ON_MYSQL
@pytest.mark.parametrize("failure", ["killed", "paused"])
async def test_refresher_keeps_loaded_secrets_until_they_expire_while_database_is_unavailable(
    database_url: str,
    store_secret: StoreSecret,
    make_refresher: MakeRefresher,
    names: Callable[[], list[str]],
    mysql_server: RunningServer,
    lines: Lines,
    clock: FakeClock,
    failure: str,
) -> None:
    await store_secret("old", lasts=60 * SECOND)
    await store_secret("new")
    async with (
        Database.open(database_url, timeout=5.0) as database,
        running_task(make_refresher(database, seconds=0.05).run()),
    ):
        await eventually(are(names, "new", "old"))
        with getattr(mysql_server, failure)():
            await eventually(has_logged(lines))
            assert names() == ["new", "old"]
            clock.advance(60 * SECOND)
            assert names() == ["new"]
        await store_secret("newest")
        await eventually(are(names, "newest", "new"))
    (line,) = (line for line in lines() if "not refreshed" in line)  # one line an outage
    assert "SERVICE_UNAVAILABLE" in line


async def test_refresher_starts_without_database(
    make_refresher: MakeRefresher, ring: KeyRing, clock: FakeClock, lines: Lines
) -> None:
    nowhere = f"mysql+aiomysql://nobody:a-password@127.0.0.1:{unused_port()}/x"
    async with Database.open(nowhere, timeout=1.0) as database, running_task(make_refresher(database).run()):
        await eventually(has_logged(lines))
        assert [secret.key for secret in ring.active_at(clock.now)] == [b"the-secret-of-the-environment"]
    assert "a-password" not in "".join(lines())


async def test_refresher_starts_before_first_migration(
    fresh_sqlite_url: str,
    make_refresher: MakeRefresher,
    names: Callable[[], list[str]],
    lines: Lines,
    cipher: Cipher,
    clock: FakeClock,
) -> None:
    async with Database.open(fresh_sqlite_url) as database, running_task(make_refresher(database, seconds=0.05).run()):
        await eventually(has_logged(lines))
        await migrate(fresh_sqlite_url)
        async with database.transaction() as tx:
            integration = await integrations.ensure(tx, SHAREGRAM, clock.now)
            sealed = cipher.encrypt(b"a-secret-of-the-database", webhook_secrets.encryption_row(SHAREGRAM, "new"))
            await webhook_secrets.add(tx, integration, "new", sealed, clock.now, None)
        await eventually(are(names, "new"))
