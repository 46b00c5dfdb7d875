"""Leases, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from safevideo_common.database import leases
from safevideo_common.database.dialect import now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import leases as table
from safevideo_testkit.eventually import eventually

LONG = 60.0
SHORT = 0.05


async def hold(database: Database, holder: str, seconds: float = LONG, name: str = "relay") -> bool:
    async with database.transaction() as tx:
        return await leases.acquire(tx, name, holder, seconds)


async def extend(database: Database, holder: str) -> bool:
    async with database.transaction() as tx:
        return await leases.renew(tx, "relay", holder, LONG)


async def release(database: Database, holder: str) -> None:
    async with database.transaction() as tx:
        await leases.release(tx, "relay", holder)


async def test_lease_has_one_holder_that_can_extend_it(database: Database) -> None:
    assert await hold(database, "a")
    assert not await hold(database, "b")
    assert await hold(database, "a")
    assert not await hold(database, "b")


async def test_leases_of_different_names_are_independent(database: Database) -> None:
    assert await hold(database, "a", name="one")
    assert await hold(database, "b", name="other")


async def test_concurrent_acquires_have_one_winner(database: Database) -> None:
    held = await asyncio.gather(*(hold(database, f"process-{number}") for number in range(4)))
    assert sorted(held) == [False, False, False, True]


async def test_expired_lease_can_be_acquired_by_another(database: Database) -> None:
    assert await hold(database, "a", SHORT)
    await eventually(lambda: hold(database, "b"))
    assert not await hold(database, "a")


async def test_release_frees_a_lease_only_for_its_holder(database: Database) -> None:
    assert await hold(database, "a")
    await release(database, "b")
    assert not await hold(database, "b")
    await release(database, "a")
    assert await hold(database, "b")


async def test_last_holder_can_renew_an_expired_lease(database: Database) -> None:
    assert not await extend(database, "a")
    assert await hold(database, "a", SHORT)
    assert not await extend(database, "b")
    await release(database, "a")
    assert await extend(database, "a")


async def test_former_holder_cannot_renew_after_another_had_the_lease(database: Database) -> None:
    assert await hold(database, "a")
    await release(database, "a")
    assert await hold(database, "b")
    await release(database, "b")
    assert not await extend(database, "a")


async def test_lease_expires_by_the_time_of_the_database(database: Database) -> None:
    assert await hold(database, "a", 90.5)
    async with database.read_connection() as reading:
        ends_at = await reading.scalar(select(table.c.expires_at))
        now = await reading.scalar(select(now_plus()))
    assert isinstance(ends_at, datetime)
    assert isinstance(now, datetime)
    assert timedelta(seconds=80) < ends_at - now <= timedelta(seconds=90.5)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)  # in these tests they are on one machine
