"""The last use of each secret, as operators see it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from time import monotonic

import pytest
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_devstack.backends import RunningServer
from safevideo_testkit.eventually import FakeClock, eventually, running_task
from webhook_ingest.secrets import KeyRing, SecretUsageRecorder

FindAll = Callable[[], Awaitable[Mapping[str, SecretRow]]]
StoreSecret = Callable[..., Awaitable[None]]
HOUR = 3600.0
DATABASE_SECONDS = 30.0  # timeout of a transaction of the fixture `database`
SECOND = timedelta(seconds=1)
NEW = WebhookSecret("new", b"a-secret-of-the-database")
ON_MYSQL = pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)


@pytest.fixture
def recorder(ring: KeyRing, database: Database, log: FilteringBoundLogger) -> SecretUsageRecorder:
    """Writes at once, and then only after an hour."""
    return SecretUsageRecorder(ring, database, logger=log, seconds=HOUR)


def is_recorded(find_all: FindAll, name: str, at: object) -> Callable[[], Awaitable[bool]]:
    async def recorded() -> bool:
        found = (await find_all()).get(name)
        return found is not None and found.last_used_at == at

    return recorded


async def test_recorder_writes_first_use_of_stored_and_environment_secrets_at_once(
    recorder: SecretUsageRecorder, ring: KeyRing, store_secret: StoreSecret, find_all: FindAll, clock: FakeClock
) -> None:
    await store_secret("new")
    (environment,) = ring.active_at(clock.now)
    async with running_task(recorder.run()):
        ring.record_use(environment, clock.now)
        await eventually(is_recorded(find_all, environment.name, clock.now))
    assert (await find_all())[environment.name] == SecretRow(environment.name, False, clock.now, None, clock.now)
    assert (await find_all())["new"].last_used_at is None
    ring.record_use(NEW, clock.now + SECOND)
    await recorder.write()
    assert (await find_all())["new"].last_used_at == clock.now + SECOND
    assert (await find_all())[environment.name].last_used_at == clock.now


async def test_recorder_delays_further_uses_and_writes_the_last_at_the_end(
    recorder: SecretUsageRecorder, ring: KeyRing, store_secret: StoreSecret, find_all: FindAll, clock: FakeClock
) -> None:
    await store_secret("new")
    started = clock.now
    async with running_task(recorder.run()):
        ring.record_use(NEW, started)
        await eventually(is_recorded(find_all, "new", started))
        ring.record_use(NEW, started + SECOND)
        ring.record_use(NEW, started + 2 * SECOND)
        assert (await find_all())["new"].last_used_at == started
    assert (await find_all())["new"].last_used_at == started + 2 * SECOND


async def test_recorder_writes_later_uses_periodically(
    database: Database,
    ring: KeyRing,
    store_secret: StoreSecret,
    find_all: FindAll,
    clock: FakeClock,
    log: FilteringBoundLogger,
) -> None:
    await store_secret("new")
    async with running_task(SecretUsageRecorder(ring, database, logger=log, seconds=0.05).run()):
        for seconds in range(3):
            ring.record_use(NEW, clock.now + seconds * SECOND)
            await eventually(is_recorded(find_all, "new", clock.now + seconds * SECOND))


async def test_recorders_of_two_processes_keep_the_later_use(
    database: Database,
    ring: KeyRing,
    store_secret: StoreSecret,
    find_all: FindAll,
    clock: FakeClock,
    log: FilteringBoundLogger,
) -> None:
    await store_secret("new")
    other = KeyRing(ring.active_at(clock.now))
    (environment,) = other.active_at(clock.now)
    for secret in (NEW, environment):
        ring.record_use(secret, clock.now + SECOND)
        other.record_use(secret, clock.now)
    await SecretUsageRecorder(ring, database, logger=log).write()
    await SecretUsageRecorder(other, database, logger=log).write()
    assert {secret.last_used_at for secret in (await find_all()).values()} == {clock.now + SECOND}


async def test_recorder_logs_failed_write_and_repeats_it(
    recorder: SecretUsageRecorder,
    ring: KeyRing,
    store_secret: StoreSecret,
    find_all: FindAll,
    database: Database,
    clock: FakeClock,
    lines: Callable[[], list[str]],
) -> None:
    await store_secret("new")
    ring.record_use(NEW, clock.now)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE integrations RENAME TO gone"))
    await recorder.write()
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE gone RENAME TO integrations"))
    (line,) = lines()
    assert "not recorded, will retry" in line
    await recorder.write()
    assert (await find_all())["new"].last_used_at == clock.now


@ON_MYSQL
@pytest.mark.parametrize("failure", ["killed", "paused"])
async def test_recorder_writes_uses_of_an_outage_after_it(
    database_url: str,
    ring: KeyRing,
    store_secret: StoreSecret,
    find_all: FindAll,
    mysql_server: RunningServer,
    clock: FakeClock,
    log: FilteringBoundLogger,
    lines: Callable[[], list[str]],
    failure: str,
) -> None:
    await store_secret("new")

    async def has_logged() -> bool:
        return any("not recorded, will retry" in line for line in lines())

    async with (
        Database.open(database_url, timeout=1.0) as database,
        running_task(SecretUsageRecorder(ring, database, logger=log, seconds=0.05).run()),
    ):
        with getattr(mysql_server, failure)():
            ring.record_use(NEW, clock.now)
            await eventually(has_logged)
        await eventually(is_recorded(find_all, "new", clock.now))


@ON_MYSQL
async def test_recorder_ends_in_time_while_database_hangs(
    database_url: str,
    ring: KeyRing,
    store_secret: StoreSecret,
    mysql_server: RunningServer,
    clock: FakeClock,
    recorder: SecretUsageRecorder,
    find_all: FindAll,
) -> None:
    await store_secret("new")
    ring.record_use(NEW, clock.now)
    await recorder.write()
    with mysql_server.paused():
        ring.record_use(NEW, clock.now + SECOND)
        started = monotonic()
        async with running_task(recorder.run()):
            await asyncio.sleep(0)  # it starts
        assert monotonic() - started < DATABASE_SECONDS / 2
    assert (await find_all())["new"].last_used_at == clock.now
