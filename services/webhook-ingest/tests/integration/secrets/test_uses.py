"""When each secret was last used, as operators read it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import pytest
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import FakeClock, eventually, running_task, ticking
from webhook_ingest.secrets import KeyRing, SecretUsageRecorder

Listed = Callable[[], Awaitable[Mapping[str, SecretRow]]]
Keep = Callable[..., Awaitable[None]]
HOUR = 3600.0
DATABASE_SECONDS = 30.0  # what a transaction of the fixture `database` may take
SECOND = timedelta(seconds=1)
NEW = WebhookSecret("new", b"a-secret-of-the-database")
ON_MYSQL = pytest.mark.parametrize("database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)


@pytest.fixture
def uses(ring: KeyRing, database: Database, log: FilteringBoundLogger) -> SecretUsageRecorder:
    """Writes at once, and then not for an hour."""
    return SecretUsageRecorder(ring, database, log=log, seconds=HOUR)


def is_noted(listed: Listed, name: str, at: object) -> Callable[[], Awaitable[bool]]:
    async def noted() -> bool:
        found = (await listed()).get(name)
        return found is not None and found.last_used_at == at

    return noted


async def test_the_first_use_is_noted_at_once_be_the_secret_kept_here_or_by_the_environment(
    uses: SecretUsageRecorder, ring: KeyRing, keep: Keep, listed: Listed, clock: FakeClock
) -> None:
    await keep("new")
    (environment,) = ring.at(clock.now)
    async with running_task(uses.run()):
        ring.note_use(environment, clock.now)
        await eventually(is_noted(listed, environment.name, clock.now))
    assert (await listed())[environment.name] == SecretRow(environment.name, False, clock.now, None, clock.now)
    assert (await listed())["new"].last_used_at is None
    ring.note_use(NEW, clock.now + SECOND)
    await uses.write()
    assert (await listed())["new"].last_used_at == clock.now + SECOND
    assert (await listed())[environment.name].last_used_at == clock.now


async def test_further_uses_wait_for_their_time_and_the_last_are_written_at_the_end(
    uses: SecretUsageRecorder, ring: KeyRing, keep: Keep, listed: Listed, clock: FakeClock
) -> None:
    await keep("new")
    began = clock.now
    async with running_task(uses.run()):
        ring.note_use(NEW, began)
        await eventually(is_noted(listed, "new", began))
        ring.note_use(NEW, began + SECOND)
        ring.note_use(NEW, began + 2 * SECOND)
        assert (await listed())["new"].last_used_at == began
    assert (await listed())["new"].last_used_at == began + 2 * SECOND


async def test_uses_go_on_being_written_as_time_goes_by(
    database: Database,
    ring: KeyRing,
    keep: Keep,
    listed: Listed,
    clock: FakeClock,
    log: FilteringBoundLogger,
) -> None:
    await keep("new")
    async with running_task(SecretUsageRecorder(ring, database, log=log, seconds=0.05).run()):
        for seconds in range(3):
            ring.note_use(NEW, clock.now + seconds * SECOND)
            await eventually(is_noted(listed, "new", clock.now + seconds * SECOND))


async def test_two_processes_leave_the_later_use(
    database: Database, ring: KeyRing, keep: Keep, listed: Listed, clock: FakeClock, log: FilteringBoundLogger
) -> None:
    await keep("new")
    other = KeyRing(ring.at(clock.now))
    (environment,) = other.at(clock.now)
    for secret in (NEW, environment):
        ring.note_use(secret, clock.now + SECOND)
        other.note_use(secret, clock.now)
    await SecretUsageRecorder(ring, database, log=log).write()
    await SecretUsageRecorder(other, database, log=log).write()
    assert {secret.last_used_at for secret in (await listed()).values()} == {clock.now + SECOND}


async def test_a_write_that_fails_is_logged_and_made_up_for(
    uses: SecretUsageRecorder,
    ring: KeyRing,
    keep: Keep,
    listed: Listed,
    database: Database,
    clock: FakeClock,
    lines: Callable[[], list[str]],
) -> None:
    await keep("new")
    ring.note_use(NEW, clock.now)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE integrations RENAME TO gone"))
    await uses.write()
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE gone RENAME TO integrations"))
    (line,) = lines()
    assert "use not noted" in line
    await uses.write()
    assert (await listed())["new"].last_used_at == clock.now


@ON_MYSQL
@pytest.mark.parametrize("trouble", ["killed", "paused"])
async def test_uses_during_an_outage_are_noted_after_it(
    database_url: str,
    ring: KeyRing,
    keep: Keep,
    listed: Listed,
    mysql_server: RunningServer,
    clock: FakeClock,
    log: FilteringBoundLogger,
    lines: Callable[[], list[str]],
    trouble: str,
) -> None:
    await keep("new")

    async def is_told() -> bool:
        return any("use not noted" in line for line in lines())

    async with (
        Database.open(database_url, timeout=1.0) as impatient,
        running_task(SecretUsageRecorder(ring, impatient, log=log, seconds=0.05).run()),
    ):
        with getattr(mysql_server, trouble)():
            ring.note_use(NEW, clock.now)
            await eventually(is_told)
        await eventually(is_noted(listed, "new", clock.now))


@ON_MYSQL
async def test_a_database_that_hangs_does_not_hold_up_the_end(
    database_url: str,
    ring: KeyRing,
    keep: Keep,
    mysql_server: RunningServer,
    clock: FakeClock,
    uses: SecretUsageRecorder,
    listed: Listed,
) -> None:
    await keep("new")
    ring.note_use(NEW, clock.now)
    await uses.write()
    with mysql_server.paused():
        ring.note_use(NEW, clock.now + SECOND)
        async with ticking() as ticks, running_task(uses.run()):
            await asyncio.sleep(0)  # it begins
        assert ticks.seconds < DATABASE_SECONDS / 2
    assert (await listed())["new"].last_used_at == clock.now
